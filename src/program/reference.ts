/**
 * A plain reference of the classifier, written from the policies themselves and not from the compiled rules: what native
 * code must agree with, and what `weir trace` explains decisions by.
 */
import { parseAddress, parsePrefix, type Prefix } from '../config/address.js';
import type { Configuration, MatchConfig, PolicyConfig, PortRange } from '../config/configuration.js';

/** The packet that opens a stream. */
export interface Opening {
  readonly capture: string;
  /** Outermost VLAN id, 0 where there is none. */
  readonly vlan: number;
  readonly direction: 'out' | 'in';
  readonly protocol: number;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

export interface Considered {
  readonly policy: PolicyConfig;
  /** Specificity of the alternative that matched; null where it did not match. */
  readonly specificity: number | null;
  /** `wins`, or why not: `protocol`, `source`, `outranked by web-out` … */
  readonly verdict: string;
}

export interface Classified {
  /** Null: the default action. */
  readonly policy: PolicyConfig | null;
  readonly considered: readonly Considered[];
}

const hasPorts = (protocol: number): boolean => protocol === 6 || protocol === 17;
const sizeBits = (range: PortRange): number => Math.ceil(Math.log2(range.high - range.low + 1));

/** Parsed once per list: a policy's lists never change. */
const parsed = new WeakMap<readonly string[], readonly Prefix[]>();

function prefixesOf(list: readonly string[]): readonly Prefix[] {
  let prefixes = parsed.get(list);
  if (prefixes === undefined) {
    prefixes = list.map(parsePrefix).filter((prefix) => typeof prefix !== 'string');
    parsed.set(list, prefixes);
  }
  return prefixes;
}

/** Whether two addresses have their first `length` bits in common. */
function agree(a: Uint8Array, b: Uint8Array, length: number): boolean {
  for (let bit = 0; bit < length; bit += 8) {
    const difference = (a[bit >> 3] ?? 0) ^ (b[bit >> 3] ?? 0);
    if (difference >> Math.max(0, 8 - (length - bit)) !== 0) return false;
  }
  return true;
}

const MAPPED = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]);
const isIpv4 = (address: Uint8Array): boolean => agree(address, MAPPED, 96);

/** Bits that the best matching prefix pins down, null if none matches, 0 if there are none. An IPv6 prefix matches no IPv4 address. */
function prefixBits(list: readonly string[], address: Uint8Array): number | null {
  if (list.length === 0) return 0;
  let best: number | null = null;
  for (const { bytes, length } of prefixesOf(list)) {
    const sameFamily = isIpv4(address) === (length >= 96 && isIpv4(bytes));
    if (sameFamily && agree(address, bytes, length)) best = Math.max(best ?? 0, length);
  }
  return best;
}

function portBits(ranges: readonly PortRange[], protocol: number, port: number): number | null {
  if (ranges.length === 0) return 0;
  let best: number | null = null;
  for (const range of ranges) {
    const any = range.low === 0 && range.high === 65_535;
    if (any || (hasPorts(protocol) && port >= range.low && port <= range.high)) best = Math.max(best ?? 0, 16 - sizeBits(range));
  }
  return best;
}

/** Specificity of the match, or the name of the first key that does not match. */
function judge(match: MatchConfig, packet: Opening, from: Uint8Array, to: Uint8Array): number | string {
  if (match.captures.length > 0 && !match.captures.includes(packet.capture)) return 'capture';
  if (match.vlans.length > 0 && !match.vlans.includes(packet.vlan)) return 'vlan';
  if (match.direction !== null && match.direction !== packet.direction) return 'direction';
  if (match.protocols.length > 0 && !match.protocols.includes(packet.protocol)) return 'protocol';
  const source = prefixBits(match.sources, from);
  if (source === null) return 'source';
  const destination = prefixBits(match.destinations, to);
  if (destination === null) return 'destination';
  const sourcePort = portBits(match.sourcePorts, packet.protocol, packet.sourcePort);
  if (sourcePort === null) return 'source_port';
  const destinationPort = portBits(match.destinationPorts, packet.protocol, packet.destinationPort);
  if (destinationPort === null) return 'destination_port';
  const given = (list: readonly unknown[]): number => (list.length > 0 ? 8 : 0);
  return (
    source + destination + sourcePort + destinationPort + given(match.protocols) + given(match.captures) + given(match.vlans) + (match.direction === null ? 0 : 1)
  );
}

/**
 * The packet that opens the stream of this one. Where a chain that delivers would take its answer, it is an answer itself: of an instance
 * that has a virtual address, seen before what it answers. Native code turns such a stream round.
 */
export function asOpened(configuration: Pick<Configuration, 'policies' | 'chains'>, packet: Opening): Opening {
  const delivering = new Set(configuration.chains.filter((chain) => chain.deliver).map((chain) => chain.name));
  if (delivering.size === 0) return packet;
  const delivers = (opening: Opening): boolean => {
    const action = classify(configuration, opening).policy?.action;
    return action?.kind === 'chain' && delivering.has(action.chain);
  };
  if (delivers(packet)) return packet;
  const { source, sourcePort, destination, destinationPort, direction } = packet;
  const turned: Opening = { ...packet, source: destination, sourcePort: destinationPort, destination: source, destinationPort: sourcePort, direction: direction === 'out' ? 'in' : 'out' };
  return delivers(turned) ? turned : packet;
}

/** Whether a stream's opening packet matches; addresses as `parseAddress` gives them, so that many matches can share them. */
export function matches(match: MatchConfig, packet: Opening, from: Uint8Array, to: Uint8Array): boolean {
  return typeof judge(match, packet, from, to) === 'number';
}

/** What happens to the stream that this packet opens, and why each policy is or isn't the one. Throws a TypeError on a text that is no address. */
export function classify(configuration: Pick<Configuration, 'policies'>, packet: Opening): Classified {
  const [from, to] = [parseAddress(packet.source), parseAddress(packet.destination)];
  if (from === null || to === null) throw new TypeError(`expected IP addresses, found "${packet.source}" and "${packet.destination}"`);
  const judged = configuration.policies.map((policy, order) => ({ policy, order, result: judge(policy.match, packet, from, to) }));
  const matching = judged
    .flatMap((entry) => (typeof entry.result === 'number' ? [{ ...entry, specificity: entry.result }] : []))
    .sort((a, b) => b.policy.priority - a.policy.priority || b.specificity - a.specificity || a.order - b.order);
  const winner = matching[0];
  const considered = judged.map(({ policy, order, result }): Considered => {
    if (typeof result === 'string') return { policy, specificity: null, verdict: `no match: ${result}` };
    if (winner === undefined || winner.order === order) return { policy, specificity: result, verdict: 'wins' };
    const why = winner.policy.priority > policy.priority ? 'priority' : winner.specificity > result ? 'specificity' : 'written first';
    return { policy, specificity: result, verdict: `outranked by ${winner.policy.name} (${why})` };
  });
  return { policy: winner?.policy ?? null, considered };
}
