/** What of a dataplane outlives its process. */
import type { CaptureConfig, PlainDocument, ServiceConfig } from '../config/configuration.js';
import type { SavedPaths } from '../dataplane/paths.js';
import type { ElasticMember } from '../scale/members.js';
import type { Ids, SavedIds } from '../program/ids.js';
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
  /** Instances that hooks started. */
  readonly elastic?: readonly ElasticMember[] | undefined;
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

/** What the numbers in a flow table mean. */
export interface Meaning {
  readonly captures: readonly CaptureConfig[];
  readonly ids: SavedIds;
  readonly paths: SavedPaths;
  /** Those that paths have, as they were last. */
  readonly services: readonly ServiceConfig[];
}

/** What lets live streams go on in another process. */
export interface Continuity {
  /** 16 hexadecimal digits that stay for as long as ids keep their meaning. */
  readonly identity: string;
  /** For configurations that name no file: 16 bytes. */
  readonly affinityKey: Uint8Array;
  /** Null: nothing was kept. */
  readonly before: Meaning | null;
  /** Writes it before anything by it is in force. */
  keep(meaning: Omit<Meaning, 'ids'>, ids: Ids): Promise<void>;
}

/** What a dataplane continues. */
export interface Origin {
  readonly generation: number;
  readonly instances: SavedState['instances'];
  readonly switches?: SavedState['switches'];
  readonly elastic?: SavedState['elastic'];
  readonly keeper: StateKeeper | null;
  /** Generation of the state in the directory; where it was taken, the same as `generation`. */
  readonly stateGeneration?: number;
  /** Absent: a stream does not outlive the process. */
  readonly continuity?: Continuity;
}

export const FRESH: Origin = { generation: 1, instances: {}, keeper: null };
