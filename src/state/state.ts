/** What of a dataplane outlives its process. */
import type { PlainDocument } from '../config/configuration.js';
import type { InstanceState } from '../dataplane/native.js';

export interface SavedInstance {
  readonly state: InstanceState;
  /** When draining ends at the latest, in milliseconds of the epoch. */
  readonly deadlineMs: number | null;
}

export interface SavedState {
  readonly generation: number;
  /** File that `weir run` was started with; relative paths in the document are relative to it. */
  readonly file: string;
  readonly document: PlainDocument;
  /** By `service/name`; those that are up are left out. */
  readonly instances: Readonly<Record<string, SavedInstance>>;
  /** Positions of the switches that people turned. */
  readonly switches?: Readonly<Record<string, boolean>> | undefined;
}

/** A state on its way to the disk: all that can go wrong with space and permission has gone right. */
export interface Prepared {
  /** Puts it in the place of the one before. */
  commit(): Promise<void>;
  discard(): Promise<void>;
}

export interface StateKeeper {
  prepare(state: SavedState): Promise<Prepared>;
}

/** What a dataplane continues. */
export interface Origin {
  readonly generation: number;
  readonly instances: SavedState['instances'];
  readonly switches?: SavedState['switches'];
  readonly keeper: StateKeeper | null;
}

export const FRESH: Origin = { generation: 1, instances: {}, keeper: null };
