/** What happens in a simulation: a list made of a seed, so that parts of it can be left out to find what a failure needs. */
import { Random } from '../../support/random-policies.js';

export const SERVICES = ['a', 'b', 'c'] as const;
export const INSTANCES = 3;
export const STREAMS = 16;
/** Instances that a scale-out adds, beside those there are from the start. */
export const SPARE = 1;

export type Event =
  | { readonly kind: 'packet'; readonly stream: number; readonly answer: boolean }
  | { readonly kind: 'kill' | 'restart' | 'drain' | 'up' | 'scale_out' | 'scale_in'; readonly node: string }
  /** It does nothing for a while, and then all of it. */
  | { readonly kind: 'stall'; readonly node: string; readonly ms: number }
  /** Nothing arrives between them; `two` null: from and to nobody. */
  | { readonly kind: 'partition'; readonly one: string; readonly two: string | null; readonly ms: number }
  | { readonly kind: 'weight'; readonly node: string; readonly weight: number }
  | { readonly kind: 'clock'; readonly node: string; readonly ms: number }
  | { readonly kind: 'reconfigure'; readonly services: readonly string[]; readonly existing: 'keep' }
  | { readonly kind: 'replay_map'; readonly node: string };

export interface Timed {
  readonly atMs: number;
  readonly event: Event;
}

export const nodesOf = (service: string): string[] => Array.from({ length: INSTANCES + SPARE }, (_, i) => `${service}/${service}${i + 1}`);
export const ALL = SERVICES.flatMap(nodesOf);
/** By then other streams have begun. */
const GENERATION_MS = 1500;
const SERVING = SERVICES.flatMap((service) => nodesOf(service).slice(0, INSTANCES));

/** Between two failures of instances of one service: what one takes with it has been said to another by then. */
const APART_MS = 1500;

export function eventsOf(seed: number, count: number): Timed[] {
  const random = new Random(seed);
  const events: Timed[] = [];
  let atMs = 200;
  const downUntil = new Map<string, number>();
  const lastFailure = new Map<string, number>();
  const doubles = random.chance(0.2);
  const failing = (node: string, forMs: number): boolean => {
    const service = node.slice(0, 1);
    if (!doubles && atMs - (lastFailure.get(service) ?? -Infinity) < APART_MS + (downUntil.get(service) ?? 0)) return false;
    lastFailure.set(service, atMs);
    downUntil.set(service, forMs);
    return true;
  };
  while (events.length < count) {
    atMs += random.below(12);
    const roll = random.next();
    const node = random.pick(SERVING);
    const add = (event: Event): void => void events.push({ atMs, event });
    if (roll < 0.93) add({ kind: 'packet', stream: random.below(STREAMS) + STREAMS * Math.floor(atMs / GENERATION_MS), answer: random.chance(0.4) });
    else if (roll < 0.945) {
      if (!failing(node, 700)) continue;
      add({ kind: 'kill', node });
      events.push({ atMs: atMs + 50 + random.below(600), event: { kind: 'restart', node } });
    } else if (roll < 0.955) {
      const ms = random.below(600);
      if (failing(node, ms)) add({ kind: 'stall', node, ms });
    } else if (roll < 0.965) {
      const two = random.chance(0.5) ? random.pick(SERVING) : random.chance(0.5) ? 'weir' : null;
      const ms = random.below(600);
      if (two !== node && failing(node, ms)) add({ kind: 'partition', one: node, two, ms });
    } else if (roll < 0.972) add({ kind: random.chance(0.5) ? 'drain' : 'up', node });
    else if (roll < 0.98) add({ kind: random.chance(0.7) ? 'scale_out' : 'scale_in', node: `${node.slice(0, 3)}${INSTANCES + 1}` });
    else if (roll < 0.985) add({ kind: 'weight', node, weight: 1 + random.below(5) });
    else if (roll < 0.99) add({ kind: 'clock', node, ms: random.below(20_000) - 10_000 });
    else if (roll < 0.995) add({ kind: 'reconfigure', services: random.pick([['a', 'b', 'c'], ['a', 'b'], ['b', 'c'], ['a', 'b', 'c']]), existing: 'keep' });
    else add({ kind: 'replay_map', node });
  }
  return events.sort((x, y) => x.atMs - y.atMs);
}
