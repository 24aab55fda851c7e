/**
 * A plain reference of the classifier, written from the policies themselves and not from the compiled rules: what native
 * code must agree with, and what `weir trace` explains decisions by.
 */
import { mask, parseAddress, parsePrefix } from '../config/address.js';
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

/** Bits that the best matching prefix pins down, null if none matches, 0 if there are none. */
function prefixBits(prefixes: readonly string[], address: Uint8Array): number | null {
  if (prefixes.length === 0) return 0;
  let best: number | null = null;
  for (const text of prefixes) {
    const prefix = parsePrefix(text);
    if (typeof prefix === 'string') continue;
    const masked = mask(address, prefix.length);
    if (masked.every((byte, i) => byte === prefix.bytes[i])) best = Math.max(best ?? 0, prefix.length);
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
function judge(match: MatchConfig, packet: Opening): number | string {
  if (match.captures.length > 0 && !match.captures.includes(packet.capture)) return 'capture';
  if (match.vlans.length > 0 && !match.vlans.includes(packet.vlan)) return 'vlan';
  if (match.direction !== null && match.direction !== packet.direction) return 'direction';
  if (match.protocols.length > 0 && !match.protocols.includes(packet.protocol)) return 'protocol';
  const source = prefixBits(match.sources, parseAddress(packet.source) ?? new Uint8Array(16));
  if (source === null) return 'source';
  const destination = prefixBits(match.destinations, parseAddress(packet.destination) ?? new Uint8Array(16));
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

export function classify(configuration: Pick<Configuration, 'policies'>, packet: Opening): Classified {
  const judged = configuration.policies.map((policy, order) => ({ policy, order, result: judge(policy.match, packet) }));
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
