/** What scaling needs of the dataplane that it is for. */
import type { PlacementConfig } from '../config/configuration.js';
import type { InstanceState } from '../dataplane/native.js';
import type { EventFacts } from '../observe/events.js';

export interface ScaleHost {
  /** What counts, and what people set. Keys are `service/name`. */
  readonly stateOf: (key: string) => InstanceState;
  readonly setStateOf: (key: string) => InstanceState;
  /** Why its health is what it is. */
  readonly causeOf: (key: string) => string;
  readonly streamsAt: (key: string) => number;
  /** Null: unknown. */
  readonly loadOf: (key: string, metric: PlacementConfig['metric']) => number | null;
  readonly setInstance: (service: string, instance: string, state: InstanceState, deadlineMs: number | null) => Promise<unknown>;
  /** Puts the members that there are now into the program. Rejects, and has changed nothing, where that can't be. */
  readonly admit: (what: string) => Promise<unknown>;
  /** Why no instance can be there, or null. */
  readonly notFree: (address: string) => string | null;
  readonly canonical: (address: string) => string;
  readonly tell: (event: Extract<EventFacts, { kind: 'scale' }>) => void;
  readonly warn: (text: string) => void;
  readonly info: (text: string) => void;
}
