/** What one instance still has to say to another one: which streams' states, and what is under way. */
import type { MapInstance } from '../service-map.js';
import type { Waiting } from './hold.js';
import type { FieldValue } from './state-codec.js';
import type { SyncedStream } from './store.js';

/** Of a stream that this instance serves. */
export interface Entry<S extends SyncedStream> {
  readonly stream: S;
  /** Map by which the target was found. */
  mapVersion: number;
  target: Peer<S> | null;
  /** Version that the target has; 0: none. */
  acked: number;
  /** Sent last, and what has changed since the acknowledged one. */
  sent: number;
  values: readonly FieldValue[] | null;
  flags: number;
  mask: Uint8Array | null;
  dirtySinceMs: number;
  ended: boolean;
  waiting: { readonly version: number; readonly hold: Waiting }[];
}

export interface Flight<S extends SyncedStream> {
  readonly records: readonly { readonly entry: Entry<S>; readonly version: number }[];
  readonly sentMs: number;
  /** Of a background fill: nobody waits for it. */
  readonly fill: boolean;
}

export interface Peer<S extends SyncedStream> {
  readonly instance: MapInstance;
  readonly flights: Map<number, Flight<S>>;
  /** To be said: what packets or changes wait for, and the rest of the fill. */
  readonly urgent: Set<Entry<S>>;
  readonly background: Set<Entry<S>>;
  /** Said, not taken: asked again when that time has come. */
  readonly later: Map<Entry<S>, number>;
  retryMs: number;
  /** Datagrams of a fill that may be on their way at once. */
  fillWindow: number;
}

/** To be said with the next datagram. */
export function soon<S extends SyncedStream>({ urgent, background, later }: Peer<S>, entry: Entry<S>): void {
  background.delete(entry);
  later.delete(entry);
  urgent.add(entry);
}
