/** Random configurations and packets near their edges, from a seed: for comparing two classifiers. */
import type { Configuration, MatchConfig, PolicyConfig, PortRange } from '../../src/config/configuration.js';
import { formatAddress, mask, parseAddress, parsePrefix } from '../../src/config/address.js';
import type { Opening } from '../../src/program/reference.js';

/** mulberry32: small, and the same everywhere. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  chance(p: number): boolean {
    return this.next() < p;
  }
  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }
  some<T>(p: number, make: () => T): T[] {
    return this.chance(p) ? Array.from({ length: 1 + this.below(3) }, make) : [];
  }
}

const PORTS = [22, 23, 53, 80, 443, 8000, 8080, 8100];

function randomPrefix(random: Random): string {
  const v6 = random.chance(0.4);
  const length = random.below(v6 ? 129 : 33);
  const bytes = new Uint8Array(16);
  if (v6) bytes.set([0xfd, random.below(3), ...Array.from({ length: 14 }, () => random.below(4))]);
  else bytes.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, random.below(3), random.below(4), random.below(256)]);
  return `${formatAddress(mask(bytes, v6 ? length : length + 96))}/${length}`;
}

function randomRange(random: Random): PortRange {
  const low = random.pick(PORTS) - random.below(2);
  return random.chance(0.1) ? { low: 0, high: 65_535 } : { low, high: random.chance(0.5) ? low : Math.min(65_535, low + random.below(200)) };
}

function randomMatch(random: Random): MatchConfig {
  return {
    captures: random.some(0.2, () => random.pick(['a', 'b'])),
    vlans: random.some(0.15, () => random.pick([0, 7, 100])),
    direction: random.chance(0.25) ? random.pick(['out', 'in'] as const) : null,
    protocols: random.some(0.4, () => random.pick([1, 6, 17, 58])),
    sources: random.some(0.4, () => randomPrefix(random)),
    destinations: random.some(0.4, () => randomPrefix(random)),
    sourcePorts: random.some(0.15, () => randomRange(random)),
    destinationPorts: random.some(0.4, () => randomRange(random)),
  };
}

/** Up to so many; some go to one of the chains. */
export function randomPolicies(random: Random, most: number, chains: readonly string[] = []): PolicyConfig[] {
  return Array.from({ length: 1 + random.below(most) }, (_, i) => ({
    name: `p${i}`,
    priority: random.chance(0.7) ? 0 : random.below(3) - 1,
    match: randomMatch(random),
    action: random.pick<PolicyConfig['action']>([{ kind: 'pass' }, { kind: 'drop' }, ...chains.map((chain) => ({ kind: 'chain' as const, chain }))]),
  }));
}

/** An address in, just before or just behind one of the prefixes, or anywhere. */
function addressNear(random: Random, prefixes: readonly string[], v6: boolean): string {
  const ofFamily = prefixes.filter((text) => text.includes(':') === v6);
  if (ofFamily.length === 0 || random.chance(0.15)) {
    return v6 ? `fd0${random.below(3)}::${random.below(4)}` : `10.${random.below(3)}.${random.below(4)}.${random.below(256)}`;
  }
  const prefix = parsePrefix(random.pick(ofFamily));
  if (typeof prefix === 'string') throw new TypeError(prefix);
  const bytes = prefix.bytes.map((byte, i) => {
    const free = Math.min(8, Math.max(0, (i + 1) * 8 - prefix.length));
    return byte | (random.below(256) & ((1 << free) - 1));
  });
  if (random.chance(0.2) && prefix.length > (v6 ? 0 : 96)) {
    const bit = prefix.length - 1;
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7)); // just outside
  }
  const text = formatAddress(bytes);
  return parseAddress(text) !== null && text.includes(':') === v6 ? text : v6 ? 'fd00::1' : '10.0.0.1';
}

function portNear(random: Random, ranges: readonly PortRange[]): number {
  if (ranges.length === 0 || random.chance(0.2)) return random.pick(PORTS);
  const range = random.pick(ranges);
  return Math.min(65_535, Math.max(0, random.pick([range.low, range.high, range.low - 1, range.high + 1])));
}

/** A packet near one of the policies. */
export function packetNear(random: Random, policies: readonly PolicyConfig[]): Opening {
  const { match } = random.pick(policies);
  const protocol = match.protocols.length > 0 && random.chance(0.8) ? random.pick(match.protocols) : random.pick([1, 6, 17, 58]);
  const v6 = protocol === 58 || (protocol !== 1 && [...match.sources, ...match.destinations].some((text) => text.includes(':')));
  return {
    capture: match.captures.length > 0 && random.chance(0.8) ? random.pick(match.captures) : random.pick(['a', 'b']),
    vlan: match.vlans.length > 0 && random.chance(0.8) ? random.pick(match.vlans) : 0,
    direction: match.direction !== null && random.chance(0.8) ? match.direction : random.pick(['out', 'in'] as const),
    protocol,
    source: addressNear(random, match.sources, v6),
    sourcePort: portNear(random, match.sourcePorts),
    destination: addressNear(random, match.destinations, v6),
    destinationPort: portNear(random, match.destinationPorts),
  };
}

export function withPolicies(base: Configuration, policies: readonly PolicyConfig[]): Configuration {
  return { ...base, policies };
}
