/** Reference of the service map (native/engine/service_map.cc): weighted rendezvous hashing in exact integers. */

export interface MapMember {
  readonly id: number;
  readonly weight: number;
  readonly seed: readonly [number, number];
}

function mix(h: number): number {
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const LOG2 = Array.from({ length: 257 }, (_, i) => Math.round(Math.log2(1 + i / 256) * 2 ** 24));

/** -log2(h / 2^32) in 8.24 fixed point. */
export function negativeLog2(h: number): number {
  const value = h === 0 ? 1 : h;
  const exponent = 31 - Math.clz32(value);
  const mantissa = (value << (31 - exponent)) >>> 0;
  const i = (mantissa >>> 23) & 255;
  const rest = mantissa & 0x7fffff;
  const low = LOG2[i] ?? 0;
  // At most 2^16 * 2^23: exact in a double.
  const fraction = low + Math.floor((((LOG2[i + 1] ?? 0) - low) * rest) / 2 ** 23);
  return 32 * 2 ** 24 - (exponent * 2 ** 24 + fraction);
}

/** Lower is better. */
export function score(code: number, member: MapMember): number {
  const h = mix((mix((code ^ member.seed[0]) >>> 0) + member.seed[1]) >>> 0);
  return Math.floor((negativeLog2(h) * 65_536) / member.weight);
}

/** Ids, best first: primary, secondary, … */
export function rank(code: number, members: readonly MapMember[]): number[] {
  return members
    .map((member) => ({ id: member.id, score: score(code, member) }))
    .sort((a, b) => a.score - b.score || a.id - b.id)
    .map((entry) => entry.id);
}
