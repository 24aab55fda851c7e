/**
 * Many literal patterns at once (A. V. Aho and M. J. Corasick, "Efficient String Matching", 1975), over bytes that come in pieces: between two pieces
 * one number is kept. Bytes that no pattern has share a column of the table.
 */

/** Entries of the table: 64 MiB. */
const MOST_ENTRIES = 2 ** 24;

export class Literals {
  readonly #columns: number;
  readonly #columnOf = new Uint8Array(256);
  readonly #next: Int32Array;
  /** For each state a pattern that ends there, or -1; and the next shorter state that has one, or 0. */
  readonly #pattern: Int32Array;
  readonly #shorter: Int32Array;
  /** Another pattern with the same bytes, or -1. */
  readonly #same: Int32Array;

  /** `fold`: ASCII letters of both cases are the same. Throws an Error if the table would be too large. */
  constructor(patterns: readonly Uint8Array[], fold: boolean) {
    const lower = (byte: number): number => (fold && byte >= 65 && byte <= 90 ? byte + 32 : byte);
    const used = [...new Set(patterns.flatMap((pattern) => [...pattern].map(lower)))].sort((a, b) => a - b);
    this.#columns = used.length + 1;
    for (let byte = 0; byte < 256; byte++) this.#columnOf[byte] = used.indexOf(lower(byte)) + 1;
    const most = patterns.reduce((sum, pattern) => sum + pattern.length, 1);
    if (most * this.#columns > MOST_ENTRIES) throw new Error(`${patterns.length} literal patterns of ${most - 1} bytes are too many: their table would have ${most * this.#columns} entries, ${MOST_ENTRIES} are the most`);
    this.#next = new Int32Array(most * this.#columns);
    this.#pattern = new Int32Array(most).fill(-1);
    this.#shorter = new Int32Array(most);
    this.#same = new Int32Array(patterns.length).fill(-1);
    this.#link(this.#plant(patterns));
  }

  /** Goes on in state `from` (0 at first) over `bytes` from `at` to `end`. Calls `found` with a pattern's index and the offset behind its last byte. */
  scan(from: number, bytes: Uint8Array, at: number, end: number, found: (pattern: number, end: number) => void): number {
    const next = this.#next;
    const columnOf = this.#columnOf;
    const columns = this.#columns;
    const pattern = this.#pattern;
    const shorter = this.#shorter;
    let state = from;
    for (let i = at; i < end; i++) {
      state = next[state * columns + (columnOf[bytes[i] as number] as number)] as number;
      for (let s = pattern[state] as number >= 0 ? state : (shorter[state] as number); s !== 0; s = shorter[s] as number) {
        for (let p = pattern[s] as number; p >= 0; p = this.#same[p] as number) found(p, i + 1);
      }
    }
    return state;
  }

  /** The trie; gives the number of its states. */
  #plant(patterns: readonly Uint8Array[]): number {
    let states = 1;
    patterns.forEach((bytes, p) => {
      let state = 0;
      for (const byte of bytes) {
        const cell = state * this.#columns + (this.#columnOf[byte] ?? 0);
        if (this.#next[cell] === 0) this.#next[cell] = states++;
        state = this.#next[cell] ?? 0;
      }
      this.#same[p] = this.#pattern[state] ?? -1;
      this.#pattern[state] = p;
    });
    return states;
  }

  /** Breadth first: where there is no child, that of the longest proper suffix is taken. */
  #link(states: number): void {
    const suffix = new Int32Array(states);
    const queue: number[] = [];
    for (let column = 0; column < this.#columns; column++) {
      const child = this.#next[column] ?? 0;
      if (child !== 0) queue.push(child);
    }
    for (let head = 0; head < queue.length; head++) {
      const state = queue[head] ?? 0;
      const shorter = suffix[state] ?? 0;
      this.#shorter[state] = (this.#pattern[shorter] ?? -1) >= 0 ? shorter : (this.#shorter[shorter] ?? 0);
      for (let column = 0; column < this.#columns; column++) {
        const cell = state * this.#columns + column;
        const child = this.#next[cell] ?? 0;
        const fallback = this.#next[shorter * this.#columns + column] ?? 0;
        if (child === 0) {
          this.#next[cell] = fallback;
        } else {
          suffix[child] = fallback;
          queue.push(child);
        }
      }
    }
  }
}
