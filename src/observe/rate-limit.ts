/**
 * Keeps one message from flooding the log: of each kind so many in a while are written, the others are counted, and how many they
 * were is told when the while is over.
 */
import { LRUCache } from 'lru-cache';

const BURST = 20;
const WINDOW_MS = 10_000;
/** Kinds of messages that are told apart; the least recently seen are forgotten. */
const MOST_KINDS = 500;

interface Seen {
  readonly sinceMs: number;
  written: number;
  leftOut: number;
}

export type After = (work: () => void, milliseconds: number) => void;
const later: After = (work, milliseconds) => void setTimeout(work, milliseconds).unref();

/** Messages that differ only in their numbers are of one kind. */
const kindOf = (level: number, message: string): string => `${level} ${message.slice(0, 200).replace(/[0-9]+/g, '#')}`;

export class RateLimit {
  readonly #seen = new LRUCache<string, Seen>({ max: MOST_KINDS });

  constructor(
    private readonly nowMs: () => number = () => performance.now(),
    private readonly after: After = later,
  ) {}

  /** Whether to write it. `tell` gets the number of those left out, once, when their while is over. */
  admits(level: number, message: string, tell: (leftOut: number) => void): boolean {
    const kind = kindOf(level, message);
    const now = this.nowMs();
    let seen = this.#seen.get(kind);
    if (seen === undefined || now - seen.sinceMs >= WINDOW_MS) this.#seen.set(kind, (seen = { sinceMs: now, written: 0, leftOut: 0 }));
    if (seen.written < BURST) {
      seen.written++;
      return true;
    }
    const counted = seen;
    if (counted.leftOut++ === 0) this.after(() => tell(counted.leftOut), WINDOW_MS - (now - counted.sinceMs));
    return false;
  }
}
