/**
 * What happens to a running dataplane, as typed events. The bus keeps the last ones, numbers all of them, and hands each to its
 * listeners at once; it knows nothing of sockets or packets.
 */
import type { InstanceState } from '../dataplane/native.js';
import type { Logger } from './log.js';
import { WEIR, whoIs, type Named, type Who } from './who.js';

/** What happened, and why (`cause`). */
export type EventFacts =
  /** The desired state is another one; `cause` says what was edited. */
  | { readonly kind: 'config'; readonly cause: string }
  /** An old path of a chain is gone: no stream was left on it. */
  | { readonly kind: 'path'; readonly cause: 'no stream left'; readonly path: number; readonly chain: string }
  | {
      readonly kind: 'instance';
      readonly cause: 'set' | 'drained' | 'deadline' | 'neighbour found' | 'neighbour moved' | 'neighbour lost' | `health: ${string}` | `path MTU: ${string}`;
      /** `service/name`. */
      readonly instance: string;
      /** As it is now; a neighbour that comes or goes, or the MTU of its way, does not change it. */
      readonly state: InstanceState;
    }
  /** A variant of `configurations:` came into force (`active`) or left it; `cause` is its condition in words. */
  | { readonly kind: 'condition'; readonly cause: string; readonly variant: string; readonly active: boolean }
  /** An instance that weir has started or ended by a hook, or tried to; `cause` is why. */
  | { readonly kind: 'scale'; readonly cause: string; readonly service: string; readonly instance: string; readonly phase: 'adding' | 'starting' | 'serving' | 'draining' | 'removing' | 'failed' }
  /** Live streams were given up for new ones: `evicted` since the last such event, `total` since the start. */
  | { readonly kind: 'overflow'; readonly cause: 'flow table full'; readonly evicted: number; readonly total: number; readonly capacity: number }
  /** Frames the kernel threw away because nobody took them in time: `dropped` since the last such event of this interface. */
  | { readonly kind: 'ring'; readonly cause: 'ring full'; readonly interface: string; readonly dropped: number; readonly total: number }
  /** Null: an underlay, or what instances are attached to. */
  | { readonly kind: 'capture'; readonly cause: string; readonly capture: string | null; readonly interface: string | null; readonly state: 'up' | 'down' }
  /** An interface takes no super-frames, so they are cut before they reach it. */
  | { readonly kind: 'offload'; readonly cause: 'no segmentation offload'; readonly interface: string };

export type EventKind = EventFacts['kind'];

export const EVENT_KINDS: readonly EventKind[] = ['config', 'path', 'instance', 'condition', 'scale', 'overflow', 'ring', 'capture', 'offload'];

export type WeirEvent = EventFacts & {
  /** 1, 2, 3 … since the start: a gap is what a filter left out. */
  readonly sequence: number;
  /** RFC 3339, UTC. */
  readonly time: string;
  /** In force when it happened; for a change, the one it made. */
  readonly generation: number;
  readonly who: Who;
};

export interface History {
  /** When the numbering began: another time than before means a restart. */
  readonly started: string;
  /** Sequence of the newest event of all, 0 where there is none. */
  readonly last: number;
  /** Events after `since` that are no longer kept. */
  readonly missed: number;
  /** Oldest first. */
  readonly events: readonly WeirEvent[];
}

export const KEPT_EVENTS = 200;

export class Events {
  readonly #started: string;
  readonly #kept: WeirEvent[] = [];
  readonly #listeners = new Set<(event: WeirEvent) => void>();
  #last = 0;
  readonly #counts = new Map<EventKind, number>();

  constructor(
    private readonly generation: () => number,
    private readonly log: Logger,
    private readonly nowMs: () => number = Date.now,
  ) {
    this.#started = new Date(nowMs()).toISOString();
  }

  /** Sequence of the newest event, 0 where there is none. */
  get last(): number {
    return this.#last;
  }

  /** How many of a kind there were since the start. */
  count(kind: EventKind): number {
    return this.#counts.get(kind) ?? 0;
  }

  emit(facts: EventFacts, by: Named = WEIR): WeirEvent {
    const event: WeirEvent = { sequence: ++this.#last, time: new Date(this.nowMs()).toISOString(), generation: this.generation(), who: whoIs(by), ...facts };
    this.#counts.set(facts.kind, this.count(facts.kind) + 1);
    this.#kept.push(event);
    if (this.#kept.length > KEPT_EVENTS) this.#kept.shift();
    for (const listener of this.#listeners) {
      // What happened has happened: a listener that fails must not undo it, nor keep it from the others.
      try {
        listener(event);
      } catch (error) {
        this.#listeners.delete(listener);
        this.log.error({ error: (error as Error).stack }, 'a listener for events failed and gets no more of them');
      }
    }
    return event;
  }

  /** Hands every event from now on to `listener`, which must return soon. Gives what ends that. */
  listen(listener: (event: WeirEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The newest `limit` events after `since`, of some kinds or all. */
  history({ since = 0, limit = KEPT_EVENTS, kinds }: { readonly since?: number; readonly limit?: number; readonly kinds?: readonly EventKind[] } = {}): History {
    const found = this.#kept.filter((event) => event.sequence > since && (kinds === undefined || kinds.includes(event.kind)));
    const oldest = this.#kept[0]?.sequence ?? this.#last + 1;
    return { started: this.#started, last: this.#last, missed: Math.max(0, oldest - 1 - since), events: limit === 0 ? [] : found.slice(-limit) };
  }
}
