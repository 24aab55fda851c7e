/** What was refused, by reason: each told once, then only counted. */
export class Refusals<Reason extends string> {
  readonly #counts = new Map<Reason, number>();

  constructor(private readonly tell: (reason: Reason, why: string) => void) {}

  add(reason: Reason, why: string): void {
    const count = this.#counts.get(reason) ?? 0;
    this.#counts.set(reason, count + 1);
    if (count === 0) this.tell(reason, why);
  }

  /** Only reasons that occurred. */
  get counts(): Readonly<Partial<Record<Reason, number>>> {
    return Object.fromEntries(this.#counts) as Partial<Record<Reason, number>>;
  }

  of(reason: Reason): number {
    return this.#counts.get(reason) ?? 0;
  }
}
