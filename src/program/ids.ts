/** Stable numbers for names: native streams and counters hold numbers, so a name keeps its number while the process lives. */

export interface SavedNames {
  readonly next: number;
  readonly names: Readonly<Record<string, number>>;
}

const member = (name: string, id: number): string => `${JSON.stringify(name)}:${id}`;

export class IdRegistry {
  readonly #ids = new Map<string, number>();
  readonly #names = new Map<number, string>();
  /** Names and ids as JSON has them, once somebody asked: few come between two times. */
  #texts: string[] | null = null;
  /** Given back, lowest first. */
  readonly #free: number[] = [];
  #next: number;
  /** Goes up with every name that comes or goes. */
  revision = 0;

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
    this.#texts?.push(member(name, id));
    this.revision++;
    return id;
  }

  /** What restore() goes on with, as JSON. */
  toText(): string {
    this.#texts ??= Array.from(this.#ids, ([name, id]) => member(name, id));
    return `{"next":${this.#next},"names":{${this.#texts.join(',')}}}`;
  }

  /** Goes on where another registry ended. Throws a RangeError where that can't have been one. */
  restore({ next, names }: SavedNames): void {
    const taken = new Set<number>();
    this.#texts = null;
    for (const [name, id] of Object.entries(names)) {
      if (!Number.isInteger(id) || id < 0 || id >= Math.min(next, this.limit) || taken.has(id)) throw new RangeError(`${this.what} id ${id}`);
      taken.add(id);
      this.#ids.set(name, id);
      this.#names.set(id, name);
    }
    if (!Number.isInteger(next) || next < 0 || next > this.limit) throw new RangeError(`${this.what} ids up to ${next}`);
    for (let id = this.#next; id < next; id++) if (!taken.has(id)) this.#free.push(id);
    this.#next = Math.max(this.#next, next);
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
    this.#texts = null;
    this.revision++;
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

const KINDS = ['policies', 'chains', 'services', 'instances'] as const;

/** Of all kinds together. */
export type SavedIds = Readonly<Record<keyof Ids, SavedNames>>;

/** What restoreIds() goes on with, as JSON. */
export const idsText = (ids: Ids): string => `{${KINDS.map((kind) => `"${kind}":${ids[kind].toText()}`).join(',')}}`;

/** Changes whenever idsText() does. */
export const idsRevision = ({ policies, chains, services, instances }: Ids): string => [policies, chains, services, instances].map(({ revision }) => revision).join();

/** Throws a RangeError where `saved` can't be what idsText() gave. */
export function restoreIds(saved: SavedIds): Ids {
  const ids = newIds();
  for (const kind of KINDS) ids[kind].restore(saved[kind]);
  return ids;
}

export function newIds(): Ids {
  return {
    policies: new IdRegistry('policy', 1 << 20),
    chains: new IdRegistry('chain', 1 << 16),
    services: new IdRegistry('service', 65_535),
    instances: new IdRegistry('instance', 65_535),
  };
}
