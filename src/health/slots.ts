/** A bounded number of checks at a time; the others wait for their turn in order. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];
  /** Checks that found no free slot. */
  waited = 0;

  constructor(most: number) {
    this.#free = most;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else {
      this.waited++;
      await new Promise<void>((turn) => this.#waiting.push(turn));
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
