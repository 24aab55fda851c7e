/** Slabs whose packets wait for others to have their state. They leave in the order in which they came, so that no packet overtakes another. */
import type { Hold } from '../mesh/sync/hold.js';

export interface Held<Worked> {
  readonly slab: number;
  /** Null: nothing to wait for. */
  readonly hold: Hold | null;
  readonly worked: readonly Worked[];
  readonly replacements: (number | Uint8Array)[] | undefined;
}

export class HeldSlabs<Worked> {
  readonly #waiting: Held<Worked>[] = [];

  constructor(private readonly leave: (held: Held<Worked>) => void) {}

  get size(): number {
    return this.#waiting.length;
  }

  /** False: it has left already. */
  add(held: Held<Worked>): boolean {
    this.#waiting.push(held);
    this.drain();
    return this.#waiting.includes(held);
  }

  /** What waits no longer leaves. */
  drain(): void {
    for (let first = this.#waiting[0]; first !== undefined && (first.hold === null || first.hold.open); first = this.#waiting[0]) {
      this.#waiting.shift();
      this.leave(first);
    }
  }
}
