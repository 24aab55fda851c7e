/** A policy's lists of prefixes as the pairs that one rule each can hold. */
import { mask, parsePrefix, type Prefix } from './address.js';
import type { MatchConfig } from './configuration.js';

/** Source and destination of one rule; null is any address of any family. */
export interface AddressPair {
  readonly source: Prefix | null;
  readonly destination: Prefix | null;
  /** Bits that the two prefixes as written pin down. */
  readonly bits: number;
}

/** Where IPv4 lies among IPv6 addresses: ::ffff:0:0/96. */
const IPV4 = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const IPV4_LENGTH = 96;

/** Whether the first bits are those of the IPv4 addresses. */
function beginsAsIpv4({ bytes }: Prefix, bits: number): boolean {
  for (let at = 0; at < bits; at += 8) {
    const difference = (bytes[at >> 3] ?? 0) ^ (IPV4[at >> 3] ?? 0);
    if (difference >> Math.max(0, at + 8 - bits) !== 0) return false;
  }
  return true;
}
const isIpv4 = (prefix: Prefix): boolean => prefix.length >= IPV4_LENGTH && beginsAsIpv4(prefix, IPV4_LENGTH);
/** An IPv6 prefix, such as ::/0, that the IPv4 addresses lie in as numbers, though nobody who writes it means them. */
const swallowsIpv4 = (prefix: Prefix): boolean => prefix.length < IPV4_LENGTH && beginsAsIpv4(prefix, prefix.length);

/** The same without the IPv4 addresses: at each further bit, the half that they are not in. */
function withoutIpv4(prefix: Prefix): Prefix[] {
  return Array.from({ length: IPV4_LENGTH - prefix.length }, (_, i) => {
    const bit = prefix.length + i;
    const bytes = mask(IPV4, bit);
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (~(IPV4[bit >> 3] ?? 0) & (0x80 >> (bit & 7)));
    return { bytes, length: bit + 1 };
  });
}

function parsed(prefixes: readonly string[]): readonly (Prefix | null)[] {
  if (prefixes.length === 0) return [null];
  return prefixes.map((text) => {
    const prefix = parsePrefix(text);
    if (typeof prefix === 'string') throw new TypeError(prefix);
    return prefix;
  });
}

/** Pairs of different families are left out: no packet has such addresses. */
export function* addressPairs(match: Pick<MatchConfig, 'sources' | 'destinations'>): Generator<AddressPair> {
  const destinations = parsed(match.destinations);
  for (const source of parsed(match.sources)) {
    for (const destination of destinations) {
      const bits = (source?.length ?? 0) + (destination?.length ?? 0);
      if (source !== null && destination !== null && isIpv4(source) !== isIpv4(destination)) continue;
      // One side that is IPv6 only is enough: a packet's addresses are of one family.
      const other = source !== null && !swallowsIpv4(source) ? source : destination !== null && !swallowsIpv4(destination) ? destination : null;
      if (source !== null && swallowsIpv4(source) && other === null) {
        for (const part of withoutIpv4(source)) yield { source: part, destination, bits };
      } else if (destination !== null && swallowsIpv4(destination) && other === null) {
        for (const part of withoutIpv4(destination)) yield { source, destination: part, bits };
      } else {
        yield { source, destination, bits };
      }
    }
  }
}

const counted = new WeakMap<MatchConfig, number>();

/** Rules that a policy becomes; counted no further than a little over `most`. */
export function ruleCount(match: MatchConfig, most: number): number {
  const known = counted.get(match);
  if (known !== undefined) return known;
  const lists = [match.captures, match.vlans, match.protocols, match.sourcePorts, match.destinationPorts];
  const each = lists.reduce((product, list) => product * Math.max(1, list.length), 1);
  let count = 0;
  for (const _ of addressPairs(match)) {
    count += each;
    if (count > most) return count;
  }
  counted.set(match, count);
  return count;
}
