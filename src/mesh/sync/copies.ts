/** States of streams that others serve, kept for the day that this instance has to. */
import type { Session } from '../envelope.js';
import type { Refusals } from '../refusals.js';
import type { MapInstance, MapView } from '../service-map.js';
import type { Result, StreamTuple, SyncRecord } from './record.js';
import { StateRefused, type FieldValue, type StateCodec } from './state-codec.js';
import type { StreamStore, SyncedStream } from './store.js';

export const SYNC_REFUSALS = ['malformed', 'forged', 'not_for_us', 'stranger', 'not_serving', 'owned', 'wrong_version', 'too_large', 'wrong_type', 'no_room'] as const;
export type SyncRefusal = (typeof SYNC_REFUSALS)[number];

/** Ends that are remembered, so that a late record brings nothing back. */
const MOST_ENDED = 10_000;

export interface CopiesOptions<S extends SyncedStream> {
  readonly session: Session;
  readonly service: string;
  readonly codec: StateCodec;
  readonly store: StreamStore<S>;
  /** A stream is no longer this instance's. */
  readonly forget: (stream: S) => void;
}

export class Copies<S extends SyncedStream> {
  readonly #ended = new Map<string, number>();
  #kept = 0;
  #session: Session;

  constructor(
    private readonly options: CopiesOptions<S>,
    private readonly refusals: Refusals<SyncRefusal>,
  ) {
    this.#session = options.session;
  }

  /** Another run begins, which knows of nothing. */
  renew(session: Session): void {
    this.#session = session;
    this.#ended.clear();
  }

  /** Records taken so far. */
  get kept(): number {
    return this.#kept;
  }

  /** Counts what a codec or a function threw. */
  refuse(error: unknown): void {
    this.refusals.add(error instanceof StateRefused ? error.reason : 'wrong_type', (error as Error).message);
  }

  /** By the map `view`. */
  take(record: SyncRecord, sender: MapInstance, view: MapView | null): Result {
    const { store, service, codec, forget } = this.options;
    const ranked = view?.ranked(record.path, service, record.code) ?? null;
    if (ranked === null) return 'later'; // a path that this one's map does not have yet
    const [theirs, own] = [ranked.findIndex((one) => one.session === sender.session), ranked.findIndex((one) => one.session === this.#session)];
    if (theirs < 0) {
      this.refusals.add('not_serving', `${sender.key} no longer serves streams of path ${record.path}`);
      return 'refused';
    }
    // It may have been given up, or not know yet that it has come: what it kept now, nobody would count on.
    if (own < 0) return 'later';
    const name = `${record.code} ${JSON.stringify(pick(record.tuple))}`;
    if (record.version <= (this.#ended.get(name) ?? 0)) return 'kept';
    const known = store.known(record.code, record.tuple);
    if (known !== null && known.copy === null) {
      // On a path of its own a stream is whose packets come; it may have gone on to a newer path, on which the sender comes first.
      if (known.path === record.path || own < theirs) {
        this.refusals.add('owned', `${sender.key} says something of a stream that this instance serves`);
        return 'refused';
      }
      forget(known);
      return this.take(record, sender, view);
    }
    if (known !== null && record.version <= known.stateVersion) return 'kept';
    if (record.kind === 'end') {
      if (known !== null) forget(known);
      this.#remember(name, record.version);
      return 'kept';
    }
    if (record.kind === 'delta' && (known === null || known.stateVersion < record.base)) return 'need_full';
    let fields: readonly FieldValue[];
    try {
      fields = codec.decode(record.state, record.kind === 'delta' ? (known?.copy ?? null) : null);
    } catch (error) {
      this.refuse(error);
      return 'refused';
    }
    const stream = known ?? store.copy(record.code, record.tuple);
    if (stream === null) {
      this.refusals.add('no_room', 'too many streams with one code');
      return 'refused';
    }
    stream.copy = fields;
    stream.stateVersion = record.version;
    stream.path = record.path;
    stream.answered = record.answered;
    stream.ends = record.ends;
    this.#kept++;
    return 'kept';
  }

  #remember(name: string, version: number): void {
    this.#ended.delete(name);
    this.#ended.set(name, version);
    if (this.#ended.size > MOST_ENDED) this.#ended.delete(this.#ended.keys().next().value ?? '');
  }
}

const pick = ({ version, protocol, fromPort, toPort, f0, f1, f2, f3, t0, t1, t2, t3 }: StreamTuple): readonly number[] => [version, protocol, fromPort, toPort, f0, f1, f2, f3, t0, t1, t2, t3];
