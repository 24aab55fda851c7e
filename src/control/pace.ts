/** How many requests a second one user may make, over all connections: beyond that answers wait, nothing is refused. */
export class Pace {
  #tokens: number;
  #atMs: number;

  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.#tokens = burst;
    this.#atMs = nowMs();
  }

  /** Takes one request; returns the milliseconds that it has to wait. */
  take(): number {
    this.#refill();
    this.#tokens--;
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.perSecond) * 1000;
  }

  /** Counts what a request turned out to cost beside itself: those behind it wait for that. */
  owe(requests: number): void {
    this.#tokens -= requests;
  }

  /** Whether nothing is owed, so that it may be forgotten. */
  get rested(): boolean {
    this.#refill();
    return this.#tokens >= this.burst;
  }

  #refill(): void {
    const now = this.nowMs();
    this.#tokens = Math.min(this.burst, this.#tokens + ((now - this.#atMs) * this.perSecond) / 1000);
    this.#atMs = now;
  }
}
