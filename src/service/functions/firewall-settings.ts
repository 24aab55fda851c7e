/** Rules of `firewall`: their schema, and what they are compiled to. */
import { parsePrefix } from '../../config/address.js';
import { durationMs, many, type OneOrMany } from '../../config/forms.js';
import { i32 } from '../bytes.js';
import { ICMP, ICMP6, TCP, UDP, type Packet } from '../packet.js';

const prefix = { type: 'string', description: 'An address or a prefix: 10.0.0.0/24, fd01::/64.' };
const port = { anyOf: [{ type: 'integer', minimum: 0, maximum: 65535 }, { type: 'string', pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$' }] };
const protocol = { anyOf: [{ enum: ['tcp', 'udp', 'icmp', 'icmpv6'] }, { type: 'integer', minimum: 0, maximum: 255 }] };
const duration = { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'A duration with its unit: 500ms, 350s, 5m, 2h.' };
const oneOrMany = (item: object, description: string): object => ({ description, anyOf: [item, { type: 'array', items: item, minItems: 1 }] });

export const MOST_RULES = 10_000;

export const schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    default: { enum: ['accept', 'drop'], description: 'What no rule matches. Default drop.' },
    inside: oneOrMany(prefix, 'What `direction` means: out is from these addresses, in is to them.'),
    pick_up: { type: 'boolean', description: 'Whether TCP that is in the middle may open a connection, by the rules: after a failure of another instance. Default false.' },
    idle: {
      type: 'object',
      additionalProperties: false,
      description: 'After how long without a packet a connection is forgotten.',
      properties: {
        established: { ...duration, description: 'TCP. Default 1h.' },
        opening: { ...duration, description: 'TCP that is not established yet, or closing. Default 60s.' },
        closed: { ...duration, description: 'TCP. Default 10s.' },
        udp: { ...duration, description: 'Default 120s.' },
        other: { ...duration, description: 'Default 30s.' },
      },
    },
    rules: {
      description: 'For the packet that opens a connection: the first one that matches decides.',
      type: 'array',
      maxItems: MOST_RULES,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['action'],
        properties: {
          name: { type: 'string', pattern: '^[A-Za-z0-9_]{1,60}$', description: 'A name of at most 60 letters, digits and _; the metric firewall_rule_NAME counts its decisions.' },
          action: { enum: ['accept', 'drop'] },
          direction: { enum: ['out', 'in'] },
          protocol: oneOrMany(protocol, 'Names, or numbers of IANA.'),
          source: oneOrMany(prefix, 'Addresses or prefixes of who opens it.'),
          destination: oneOrMany(prefix, 'Addresses or prefixes that it is opened to.'),
          source_port: oneOrMany(port, 'Ports or ranges, for tcp and udp.'),
          destination_port: oneOrMany(port, 'Ports or ranges, for tcp and udp.'),
        },
      },
    },
  },
} as const;

interface RawRule {
  readonly name?: string;
  readonly action: 'accept' | 'drop';
  readonly direction?: 'out' | 'in';
  readonly protocol?: OneOrMany<string | number>;
  readonly source?: OneOrMany<string>;
  readonly destination?: OneOrMany<string>;
  readonly source_port?: OneOrMany<string | number>;
  readonly destination_port?: OneOrMany<string | number>;
}

export interface FirewallSettings {
  readonly default?: 'accept' | 'drop';
  readonly inside?: OneOrMany<string>;
  readonly pick_up?: boolean;
  readonly idle?: { readonly established?: string; readonly opening?: string; readonly closed?: string; readonly udp?: string; readonly other?: string };
  readonly rules?: readonly RawRule[];
}

/** Addresses of one kind, as words: of IPv4 one, of IPv6 four. */
interface PrefixMatch {
  readonly version: 4 | 6;
  readonly words: readonly number[];
  readonly masks: readonly number[];
}

export interface Rule {
  readonly name: string | null;
  readonly accept: boolean;
  readonly direction: 'out' | 'in' | null;
  readonly protocols: readonly number[] | null;
  readonly sources: readonly PrefixMatch[] | null;
  readonly destinations: readonly PrefixMatch[] | null;
  readonly sourcePorts: readonly (readonly [number, number])[] | null;
  readonly destinationPorts: readonly (readonly [number, number])[] | null;
}

export interface Policy {
  readonly accept: boolean;
  readonly inside: readonly PrefixMatch[];
  readonly pickUp: boolean;
  readonly idle: { readonly established: number; readonly opening: number; readonly closed: number; readonly udp: number; readonly other: number };
  readonly rules: readonly Rule[];
}

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: TCP, udp: UDP, icmp: ICMP, icmpv6: ICMP6 };

/** Throws an Error that says where what is wrong. */
export function compile(settings: FirewallSettings): Policy {
  const inside = prefixes('inside', settings.inside) ?? [];
  const ms = (text: string | undefined, otherwise: number): number => (text === undefined ? otherwise : durationMs(text));
  const { idle } = settings;
  return {
    accept: settings.default === 'accept',
    inside,
    pickUp: settings.pick_up ?? false,
    idle: {
      established: ms(idle?.established, 3_600_000),
      opening: ms(idle?.opening, 60_000),
      closed: ms(idle?.closed, 10_000),
      udp: ms(idle?.udp, 120_000),
      other: ms(idle?.other, 30_000),
    },
    rules: (settings.rules ?? []).map((raw, i) => rule(raw, `rules[${i}]`, inside.length > 0)),
  };
}

function rule(raw: RawRule, where: string, hasInside: boolean): Rule {
  if (raw.direction !== undefined && !hasInside) throw new Error(`${where}.direction: needs the key "inside", which says what is in and what is out`);
  const protocols = raw.protocol === undefined ? null : many(raw.protocol).map((p) => (typeof p === 'number' ? p : (PROTOCOLS[p] ?? 0)));
  const [sourcePorts, destinationPorts] = [ports(`${where}.source_port`, raw.source_port), ports(`${where}.destination_port`, raw.destination_port)];
  if ((sourcePorts !== null || destinationPorts !== null) && (protocols === null || protocols.some((p) => p !== TCP && p !== UDP))) {
    throw new Error(`${where}: ports need "protocol: tcp" or "udp", or both`);
  }
  return {
    name: raw.name ?? null,
    accept: raw.action === 'accept',
    direction: raw.direction ?? null,
    protocols,
    sources: prefixes(`${where}.source`, raw.source),
    destinations: prefixes(`${where}.destination`, raw.destination),
    sourcePorts,
    destinationPorts,
  };
}

function prefixes(where: string, value: OneOrMany<string> | undefined): PrefixMatch[] | null {
  if (value === undefined) return null;
  return many(value).map((text) => {
    const parsed = parsePrefix(text);
    if (typeof parsed === 'string') throw new Error(`${where}: ${parsed}`);
    const version = text.includes(':') ? 6 : 4;
    const offsets = version === 4 ? [12] : [0, 4, 8, 12];
    const mask = (at: number): number => {
      const bits = Math.max(0, Math.min(32, parsed.length - at * 8));
      return bits === 0 ? 0 : (-1 << (32 - bits)) | 0;
    };
    return { version, words: offsets.map((at) => i32(parsed.bytes, at)), masks: offsets.map(mask) };
  });
}

function ports(where: string, value: OneOrMany<string | number> | undefined): (readonly [number, number])[] | null {
  if (value === undefined) return null;
  return many(value).map((range) => {
    const [low = 0, high = low] = String(range).split('-').map(Number);
    if (low > high || high > 65_535) throw new Error(`${where}: expected a port or a range of ports, found "${range}"`);
    return [low, high] as const;
  });
}

/** The rule that decides on a packet that opens a connection; null: none of them. */
export function firstMatch(policy: Policy, packet: Packet): Rule | null {
  const { memory, ip, version, protocol, sourcePort, destinationPort } = packet;
  const [source, destination] = version === 4 ? [ip + 12, ip + 16] : [ip + 8, ip + 24];
  for (const rule of policy.rules) {
    if (rule.protocols !== null && !rule.protocols.includes(protocol)) continue;
    if (rule.destinationPorts !== null && !inRange(rule.destinationPorts, destinationPort)) continue;
    if (rule.sourcePorts !== null && !inRange(rule.sourcePorts, sourcePort)) continue;
    if (rule.destinations !== null && !inPrefix(rule.destinations, version, memory, destination)) continue;
    if (rule.sources !== null && !inPrefix(rule.sources, version, memory, source)) continue;
    if (rule.direction !== null && !inPrefix(policy.inside, version, memory, rule.direction === 'out' ? source : destination)) continue;
    return rule;
  }
  return null;
}

function inRange(ranges: readonly (readonly [number, number])[], port: number): boolean {
  for (const [low, high] of ranges) if (port >= low && port <= high) return true;
  return false;
}

function inPrefix(list: readonly PrefixMatch[], version: number, memory: Uint8Array, at: number): boolean {
  for (const one of list) {
    if (one.version !== version) continue;
    let same = true;
    for (let word = 0; word < one.words.length && same; word++) same = (i32(memory, at + word * 4) & (one.masks[word] ?? 0)) === one.words[word];
    if (same) return true;
  }
  return false;
}
