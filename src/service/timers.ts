/** A function's timers: bounded in number, and what they throw is a fault of the function, not the end of the node. */
import { faultOf, type FaultLog } from './faults.js';

const MOST_TIMERS = 100;
const LEAST_MS = 1;
const MOST_MS = 2 ** 31 - 1;

export class Timers {
  readonly #live = new Map<NodeJS.Timeout, () => void>();

  constructor(
    private readonly faults: FaultLog,
    private readonly around: (work: () => void) => void = (work) => work(),
  ) {}

  every(milliseconds: number, work: () => void): () => void {
    return this.#add(milliseconds, work, true);
  }

  after(milliseconds: number, work: () => void): () => void {
    return this.#add(milliseconds, work, false);
  }

  stop(): void {
    for (const end of [...this.#live.values()]) end();
  }

  #add(milliseconds: number, work: () => void, again: boolean): () => void {
    if (!(milliseconds >= LEAST_MS && milliseconds <= MOST_MS)) throw new RangeError(`expected ${LEAST_MS} to ${MOST_MS} milliseconds, found ${String(milliseconds)}`);
    if (typeof work !== 'function') throw new TypeError(`expected a function to call, found ${typeof work}`);
    if (this.#live.size >= MOST_TIMERS) throw new RangeError(`no more than ${MOST_TIMERS} timers at a time`);
    const run = (): void => {
      if (!again) this.#live.delete(timer);
      try {
        this.around(work);
      } catch (error) {
        this.faults.add(faultOf('a timer', error));
      }
    };
    const timer = again ? setInterval(run, milliseconds) : setTimeout(run, milliseconds);
    timer.unref(); // the node keeps its process, not its functions' timers
    const end = (): void => {
      clearTimeout(timer);
      this.#live.delete(timer);
    };
    this.#live.set(timer, end);
    return end;
  }
}
