/** Stable numbers for names: native streams and counters hold numbers, so a name keeps its number while the process lives. */

export class IdRegistry {
  readonly #ids = new Map<string, number>();
  readonly #names = new Map<number, string>();
  /** Given back, lowest first. */
  readonly #free: number[] = [];
  #next: number;

  constructor(
    private readonly what: string,
    private readonly limit: number,
    first = 0,
  ) {
    this.#next = first;
  }

  /** The name's id; if it has none, the lowest that is free. Throws a RangeError when all are taken. */
  id(name: string): number {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#free[0] ?? this.#next;
    if (id >= this.limit) throw new RangeError(`there are more than ${this.limit} ${this.what} names; take some out`);
    if (this.#free.length > 0) this.#free.shift();
    else this.#next++;
    this.#ids.set(name, id);
    this.#names.set(id, name);
    return id;
  }

  name(id: number): string | undefined {
    return this.#names.get(id);
  }

  /** Gives the id back for another name. Only when nothing native can still hold it. */
  free(name: string): void {
    const id = this.#ids.get(name);
    if (id === undefined) return;
    this.#ids.delete(name);
    this.#names.delete(id);
    const place = this.#free.findIndex((other) => other > id);
    this.#free.splice(place < 0 ? this.#free.length : place, 0, id);
  }
}

export interface Ids {
  readonly policies: IdRegistry;
  readonly chains: IdRegistry;
  readonly services: IdRegistry;
  /** By `service/instance`. */
  readonly instances: IdRegistry;
}

export function newIds(): Ids {
  return {
    policies: new IdRegistry('policy', 1 << 20),
    chains: new IdRegistry('chain', 1 << 16),
    services: new IdRegistry('service', 65_535),
    instances: new IdRegistry('instance', 65_535),
  };
}
