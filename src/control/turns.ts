/** Lets the event loop turn between requests: who asks for much at once does not keep the others waiting, and is seen to be gone. */
import { setImmediate as turn } from 'node:timers/promises';

/** Short beside what a person or a health check notices, long beside most requests. */
const MOST_MS = 10;

export class Turns {
  #sinceMs = -Infinity;
  #next: Promise<void> | null = null;

  constructor(private readonly nowMs: () => number = () => performance.now()) {}

  /** Waits for the next turn of the loop, if requests have had enough of this one. */
  async take(): Promise<void> {
    if (this.nowMs() - this.#sinceMs < MOST_MS) return;
    // One for all who wait: each of them with a turn of its own would make the turns longer.
    this.#next ??= turn().then(() => {
      this.#next = null;
      this.#sinceMs = this.nowMs();
    });
    await this.#next;
  }
}
