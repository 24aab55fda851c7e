/** Results for the items of a list, of which the next list most often keeps all but a few: what both begin and end with is not made again. */
export class KeptEnds<T extends object, R> {
  #items: readonly T[] = [];
  #results: readonly R[] = [];

  constructor(private readonly make: (item: T) => R) {}

  /** As `items.map(make)`, in a list that nobody may change. */
  map(items: readonly T[]): readonly R[] {
    const [old, most] = [this.#items, Math.min(items.length, this.#items.length)];
    let begin = 0;
    while (begin < most && items[begin] === old[begin]) begin++;
    let end = 0;
    while (end < most - begin && items[items.length - 1 - end] === old[old.length - 1 - end]) end++;
    const between = items.slice(begin, items.length - end).map(this.make);
    if (begin + end < old.length || between.length > 0) this.#results = [...this.#results.slice(0, begin), ...between, ...this.#results.slice(old.length - end)];
    this.#items = items;
    return this.#results;
  }
}
