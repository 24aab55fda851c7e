/**
 * One direction of a TCP stream, put in order: what comes early is kept until the gap before it is closed. What was there first counts; a copy with
 * other bytes is a conflict (T. Ptacek and T. Newsham, "Insertion, Evasion, and Denial of Service", 1998).
 */
import { FIN, SYN } from '../packet-views.js';

/** Bytes that all streams together hold. */
export class HeldBytes {
  used = 0;

  constructor(public most: number) {}

  take(bytes: number): boolean {
    if (this.used + bytes > this.most) return false;
    this.used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.used -= bytes;
  }
}

export interface AssemblyLimits {
  /** Early bytes that one direction of a stream may hold. */
  readonly streamBytes: number;
  /** Last bytes in order that are kept, to compare copies with and for patterns that cross borders. */
  readonly tailBytes: number;
}

interface Early {
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

const NOTHING = new Uint8Array(0);
/** Of early pieces, so that a flood of single bytes costs little. */
const MOST_PIECES = 256;
/** Beyond any window there is (RFC 7323: 2^30). */
const FARTHEST = 2 ** 30;

export type Taken =
  /** In order, held, a copy, or without data. */
  | 'taken'
  /** Other bytes for what was there already. */
  | 'conflict'
  /** Too early, and there is no room to hold it. */
  | 'full';

export class TcpAssembly {
  /** The last bytes in order. */
  tail = NOTHING;
  /** Bytes in order so far, those that were skipped included. */
  offset = 0;
  /** Times that missing bytes were given up. */
  gaps = 0;
  #next = 0;
  #begun = false;
  #early: Early[] = [];
  #earlyBytes = 0;

  constructor(private readonly held: HeldBytes) {}

  /**
   * Takes a segment; calls `data` with each piece that is now in order, while `tail` holds what came before it. `skip`: where there is no room, what
   * is missing is given up and `gap` called.
   */
  take(sequence: number, flags: number, bytes: Uint8Array, limits: AssemblyLimits, skip: boolean, data: (piece: Uint8Array) => void, gap: () => void): Taken {
    let at = sequence;
    if ((flags & SYN) !== 0) {
      at = (at + 1) >>> 0;
      if (!this.#begun) this.#begin(at);
    }
    if (bytes.length === 0) return 'taken';
    if (!this.#begun) this.#begin(at);
    const ahead = (at - this.#next) | 0;
    if (ahead > FARTHEST || ahead < -FARTHEST) return 'taken'; // no window reaches there: its receiver drops it
    // A keep-alive may carry one byte of anything (RFC 1122 section 4.2.3.6).
    if (ahead === -1 && bytes.length === 1) return 'taken';
    if (this.#differs(at, bytes)) return 'conflict';
    if (ahead > 0) {
      if (this.#hold(at, bytes, limits)) return 'taken';
      if (!skip) return 'full';
      this.#giveUp(at, data, gap, limits);
      return this.take(at, flags & ~(SYN | FIN), bytes, limits, skip, data, gap);
    }
    this.#inOrder(bytes.subarray(-ahead), data, limits);
    this.#closeGaps(data, limits);
    return 'taken';
  }

  /** Gives back all it holds. */
  end(): void {
    this.held.give(this.#earlyBytes + this.tail.length);
    this.#early = [];
    this.#earlyBytes = 0;
    this.tail = NOTHING;
  }

  #begin(at: number): void {
    this.#begun = true;
    this.#next = at;
  }

  #inOrder(bytes: Uint8Array, data: (piece: Uint8Array) => void, limits: AssemblyLimits): void {
    if (bytes.length === 0) return;
    data(bytes);
    this.offset += bytes.length;
    this.#next = (this.#next + bytes.length) >>> 0;
    this.#keepTail(bytes, limits.tailBytes);
  }

  #keepTail(bytes: Uint8Array, most: number): void {
    const { tail } = this;
    const length = Math.min(most, tail.length + bytes.length);
    this.held.give(tail.length);
    if (!this.held.take(length)) {
      this.tail = NOTHING;
      return;
    }
    if (tail.length !== length || bytes.length < length) {
      const next = new Uint8Array(length);
      const fresh = Math.min(length, bytes.length);
      next.set(tail.subarray(tail.length - (length - fresh)));
      next.set(bytes.subarray(bytes.length - fresh), length - fresh);
      this.tail = next;
    } else {
      tail.set(bytes.subarray(bytes.length - length));
    }
  }

  #hold(at: number, bytes: Uint8Array, limits: AssemblyLimits): boolean {
    const end = (at + bytes.length) >>> 0;
    // All of it there already.
    if (this.#early.some((early) => ((at - early.sequence) | 0) >= 0 && ((early.sequence + early.bytes.length - end) | 0) >= 0)) return true;
    if (this.#early.length >= MOST_PIECES || this.#earlyBytes + bytes.length > limits.streamBytes || !this.held.take(bytes.length)) return false;
    this.#earlyBytes += bytes.length;
    const place = this.#early.findIndex((early) => ((early.sequence - at) | 0) > 0);
    this.#early.splice(place < 0 ? this.#early.length : place, 0, { sequence: at, bytes: bytes.slice() });
    return true;
  }

  #closeGaps(data: (piece: Uint8Array) => void, limits: AssemblyLimits): void {
    for (let first = this.#early[0]; first !== undefined; first = this.#early[0]) {
      const ahead = (first.sequence - this.#next) | 0;
      if (ahead > 0) return;
      this.#early.shift();
      this.#earlyBytes -= first.bytes.length;
      this.held.give(first.bytes.length);
      this.#inOrder(first.bytes.subarray(-ahead), data, limits);
    }
  }

  /** What is missing before the first early piece, or before `at`, is given up. */
  #giveUp(at: number, data: (piece: Uint8Array) => void, gap: () => void, limits: AssemblyLimits): void {
    const first = this.#early[0];
    const target = first !== undefined && ((at - first.sequence) | 0) > 0 ? first.sequence : at;
    this.offset += (target - this.#next) >>> 0;
    this.#next = target;
    this.gaps++;
    this.held.give(this.tail.length);
    this.tail = NOTHING;
    gap();
    this.#closeGaps(data, limits);
  }

  /** Whether the segment has other bytes for a place that is known: in the tail, or held. */
  #differs(at: number, bytes: Uint8Array): boolean {
    const tailAt = (this.#next - this.tail.length) >>> 0;
    return overlapDiffers(at, bytes, tailAt, this.tail) || this.#early.some((early) => overlapDiffers(at, bytes, early.sequence, early.bytes));
  }
}

function overlapDiffers(at: number, bytes: Uint8Array, otherAt: number, other: Uint8Array): boolean {
  const shift = (otherAt - at) | 0; // other begins here in bytes
  const from = Math.max(0, shift);
  const end = Math.min(bytes.length, shift + other.length);
  for (let i = from; i < end; i++) if (bytes[i] !== other[i - shift]) return true;
  return false;
}
