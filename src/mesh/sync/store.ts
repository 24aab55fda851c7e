/** What the sync of state needs of the streams of a node. */
import type { FieldValue } from './state-codec.js';
import type { StreamTuple } from './record.js';

export interface SyncedStream extends StreamTuple {
  readonly code: number;
  /** Null: this instance serves the stream. */
  copy: readonly FieldValue[] | null;
  stateVersion: number;
  path: number;
  gone: boolean;
  lost: boolean;
  answered: boolean;
  ends: number;
  sync: unknown;
}

export interface StreamStore<S extends SyncedStream = SyncedStream> {
  known(code: number, tuple: StreamTuple): S | null;
  copy(code: number, tuple: StreamTuple): S | null;
  serve(stream: S, nowMs: number): boolean;
  forget(stream: S): void;
  all(): S[];
}
