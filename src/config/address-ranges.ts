/** Ranges of addresses that instances may get: `10.20.0.40`, `10.20.0.40-10.20.0.49`, `10.20.0.64/28`. */
import { formatAddress, isIpv4, notOneHost, parseAddress, parsePrefix } from './address.js';

export interface AddressRange {
  /** As numbers of 128 bits; IPv4 as ::ffff:a.b.c.d. */
  readonly first: bigint;
  readonly last: bigint;
}

/** Nobody starts so many instances; a longer range is a slip. */
const MOST_ADDRESSES = 65_536n;
const HOST_BITS = 128;

const toNumber = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
const toText = (value: bigint): string => formatAddress(Buffer.from(value.toString(16).padStart(32, '0'), 'hex'));

/** The range, or a sentence on what is wrong with it. */
export function addressRange(text: string): AddressRange | string {
  const range = text.includes('-') ? betweenTwo(text) : ofPrefix(text);
  if (typeof range === 'string') return range;
  if (range.last - range.first >= MOST_ADDRESSES) return `expected at most ${MOST_ADDRESSES} addresses, found more in "${text}"`;
  return range;
}

function betweenTwo(text: string): AddressRange | string {
  const [low = '', high = '', more] = text.split('-').map((part) => part.trim());
  const [first, last] = [parseAddress(low), parseAddress(high)];
  if (first === null || last === null || more !== undefined || isIpv4(low) !== isIpv4(high)) return `expected a range of addresses such as 10.20.0.40-10.20.0.49, found "${text}"`;
  for (const bytes of [first, last]) {
    const kind = notOneHost(bytes);
    if (kind !== null) return `expected addresses of hosts, found ${formatAddress(bytes)}, which is ${kind}`;
  }
  return toNumber(first) <= toNumber(last) ? { first: toNumber(first), last: toNumber(last) } : `the range runs backwards; did you mean "${high}-${low}"?`;
}

function ofPrefix(text: string): AddressRange | string {
  const prefix = parsePrefix(text);
  if (typeof prefix === 'string') return prefix;
  const kind = notOneHost(prefix.bytes);
  if (kind !== null) return `expected addresses of hosts, found "${text}", which begins with ${kind}`;
  const first = toNumber(prefix.bytes);
  const size = 1n << BigInt(HOST_BITS - prefix.length);
  // The ends of an IPv4 subnet are the network's own and the broadcast address.
  const subnet = isIpv4(text.split('/')[0] ?? '') && size > 2n;
  return subnet ? { first: first + 1n, last: first + size - 2n } : { first, last: first + size - 1n };
}

/** The first address of the ranges that `taken` does not have; null where there is none. */
export function firstFree(ranges: readonly string[], taken: (address: string) => boolean): string | null {
  for (const text of ranges) {
    const range = addressRange(text);
    if (typeof range === 'string') continue;
    for (let value = range.first; value <= range.last; value++) {
      const address = toText(value);
      if (!taken(address)) return address;
    }
  }
  return null;
}
