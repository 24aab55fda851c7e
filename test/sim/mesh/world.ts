/** Time and the underlay of a simulation: datagrams are lost, doubled, late, out of order, and cut off. Everything of one seed. */
import { Random } from '../../support/random-policies.js';

interface Task {
  readonly atMs: number;
  readonly order: number;
  readonly work: () => void;
}

export interface Weather {
  readonly loss: number;
  readonly twice: number;
  /** One way. */
  readonly leastMs: number;
  readonly spreadMs: number;
}

export class World {
  nowMs = 1_750_000_000_000;
  readonly random: Random;
  #tasks: Task[] = [];
  #order = 0;
  readonly #cuts: { readonly one: string; readonly two: string | null; readonly untilMs: number }[] = [];
  weather: Weather;

  constructor(seed: number) {
    this.random = new Random(seed ^ 0x5eed);
    this.weather = { loss: this.random.pick([0, 0.01, 0.05]), twice: this.random.pick([0, 0.01, 0.05]), leastMs: 0.1, spreadMs: this.random.pick([0.2, 2, 8]) };
  }

  after(ms: number, work: () => void): void {
    const task = { atMs: this.nowMs + ms, order: this.#order++, work };
    // A heap, by time and then by order.
    const heap = this.#tasks;
    let at = heap.push(task) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(task, heap[parent] as Task)) break;
      heap[at] = heap[parent] as Task;
      at = parent;
    }
    heap[at] = task;
  }

  #pop(): Task | undefined {
    const heap = this.#tasks;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Task, heap[child] as Task)) child++;
      if (!before(heap[child] as Task, last)) break;
      heap[at] = heap[child] as Task;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  /** Runs until then. `look` is called after each thing that happens. */
  run(untilMs: number, look: () => void): void {
    while (this.#tasks[0] !== undefined && this.#tasks[0].atMs <= untilMs) {
      const task = this.#pop();
      if (task === undefined) break;
      this.nowMs = Math.max(this.nowMs, task.atMs);
      task.work();
      look();
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  cut(one: string, two: string | null, ms: number): void {
    this.#cuts.push({ one, two, untilMs: this.nowMs + ms });
  }

  /** Fair from now on. */
  clear(): void {
    this.#cuts.length = 0;
    this.weather = { loss: 0, twice: 0, leastMs: 0.1, spreadMs: 0.1 };
  }

  #isCut(from: string, to: string): boolean {
    return this.#cuts.some(({ one, two, untilMs }) => untilMs > this.nowMs && ((one === from && (two === null || two === to)) || (one === to && (two === null || two === from))));
  }

  /** A datagram from one host to another. */
  send(from: string, to: string, arrive: () => void): void {
    const { loss, twice, leastMs, spreadMs } = this.weather;
    for (let copies = this.random.chance(twice) ? 2 : 1; copies > 0; copies--) {
      if (this.random.chance(loss)) continue;
      this.after(leastMs + this.random.next() * spreadMs, () => {
        if (!this.#isCut(from, to)) arrive();
      });
    }
  }
}

const before = (a: Task, b: Task): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
