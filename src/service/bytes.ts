/** Reading packets: big-endian numbers, addresses, and sums. */

export const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** Unsigned. */
export const u32 = (bytes: Uint8Array, at: number): number => i32(bytes, at) >>> 0;

/** The same 32 bits as a signed number, which JavaScript keeps without allocating. */
export const i32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** IPv6 by RFC 5952: the longest run of zero groups is left out. */
export function addressText(bytes: Uint8Array, at: number, version: 4 | 6): string {
  if (version === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  const groups = Array.from({ length: 8 }, (_, i) => u16(bytes, at + 2 * i));
  let [best, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [best, length] = [i, end - i];
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  return best < 0 ? text(groups) : `${text(groups.slice(0, best))}::${text(groups.slice(best + length))}`;
}

/** One's complement sum of 16-bit words (RFC 1071), folded. */
export function sum16(bytes: Uint8Array, from: number, end: number, start = 0): number {
  let total = start;
  for (let i = from; i + 1 < end; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  if ((end - from) % 2 === 1) total += (bytes[end - 1] ?? 0) << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/** Of an address that is kept as 32-bit words; IPv4 has one. */
export function addressOfWords(version: number, a: number, b: number, c: number, d: number): string {
  const bytes = new Uint8Array(16);
  [a, b, c, d].forEach((word, i) => {
    for (let k = 0; k < 4; k++) bytes[4 * i + k] = word >>> (24 - 8 * k);
  });
  return version === 0 ? '' : addressText(bytes, 0, version === 6 ? 6 : 4);
}
