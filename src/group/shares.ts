/** The shares of new streams that a primary gives the members of its group, by what they say of their load: those with less to do get more. */
import type { Clock } from '../conditions/clock.js';
import { EVEN, place, weightsFor, type Placement } from '../load/placement.js';
import { MOST_SKEW_MS, type Hello, type Roster } from './message.js';

/** Percent, packets/s: below this members count as equally idle. */
const FLOORS = { cpu: 2, packets_per_second: 50 } as const;
const SETTINGS = { least: 0.12, smoothingMs: 5000, intervalMs: 2000 } as const;
/** What was heard longer ago says nothing of now. */
const STALE_MS = 5000;

interface Heard {
  readonly hello: Hello;
  readonly heardMs: number;
}

export class Shares {
  #placement: Placement = EVEN;
  readonly #heard = new Map<string, Heard>();

  constructor(private readonly clock: Clock) {}

  /** A member's hello; an old one, or one of another clock, is left out. */
  hear(hello: Hello): void {
    const nowMs = this.clock.now();
    const last = this.#heard.get(hello.name);
    if (Math.abs(hello.atMs - nowMs) > MOST_SKEW_MS || (last !== undefined && hello.atMs <= last.hello.atMs)) return;
    this.#heard.set(hello.name, { hello, heardMs: nowMs });
  }

  /** By name, for members that get new streams: whole numbers of at least 1. */
  weights({ members, metric }: Roster): ReadonlyMap<string, number> {
    const nowMs = this.clock.now();
    const taking = members.filter(({ state }) => state === 'up');
    const known = new Set(members.map(({ name }) => name));
    for (const name of this.#heard.keys()) if (!known.has(name)) this.#heard.delete(name);
    if (metric !== null) {
      const loadOf = (name: string): number | null => {
        const heard = this.#heard.get(name);
        if (heard === undefined || nowMs - heard.heardMs > STALE_MS) return null;
        return metric === 'cpu' ? heard.hello.cpu : heard.hello.packetsPerSecond;
      };
      const samples = taking.map(({ name, weight }) => ({ key: name, weight, streams: 0, load: loadOf(name), placedPerSecond: 0 }));
      this.#placement = place(this.#placement, samples, { ...SETTINGS, perWeight: metric !== 'cpu', countsStreams: false, floor: FLOORS[metric] }, nowMs);
    }
    const factors = taking.map(({ name }) => (metric === null ? 1 : (this.#placement.factors.get(name) ?? 1)));
    const weights = weightsFor(taking.map(({ weight }) => weight), factors);
    return new Map(taking.map(({ name }, i) => [name, weights[i] ?? 1]));
  }
}

/** Weights as parts of a whole. */
export function partsOf(weights: ReadonlyMap<string, number>): Record<string, number> {
  const sum = [...weights.values()].reduce((total, weight) => total + weight, 0);
  return Object.fromEntries([...weights].map(([name, weight]) => [name, Math.round((weight / sum) * 1000) / 1000]));
}
