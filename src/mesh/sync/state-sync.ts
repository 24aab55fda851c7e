/**
 * Keeps the state of every stream at two instances: the one that serves it, and the one that would take over. Pure but for what it is given:
 * time comes by a function, datagrams go by another, so that the simulator drives this very code.
 *
 * A record says of a stream its latest state, under a version that only goes up. So a lost datagram is not sent again: what is not acknowledged
 * in time is said anew, as it is by then; a late or doubled one is older than what is there, and changes nothing.
 */
import { open, seal, type Kind, type Session } from '../envelope.js';
import { Refusals } from '../refusals.js';
import type { MapInstance, MapView, SyncMode } from '../service-map.js';
import { Copies, type SyncRefusal } from './copies.js';
import { Hold } from './hold.js';
import { Outbox } from './outbox.js';
import { soon, type Entry } from './peer.js';
import { encodeAck, readRecord, type Result, type StreamTuple, type SyncRecord } from './record.js';
import { Reader, type FieldValue, type StateCodec } from './state-codec.js';
import type { StreamStore, SyncedStream } from './store.js';

export { SYNC_REFUSALS, type SyncRefusal } from './copies.js';

export interface Place {
  readonly address: string;
  readonly port: number;
}

/** Wrong on purpose, one each, for tests of the simulator. */
export type Fault = 'skip_one_sync' | 'use_the_old_map' | 'acknowledge_early';

export interface StateSyncOptions<S extends SyncedStream> {
  readonly now: () => number;
  readonly send: (to: Place, datagram: Buffer) => void;
  readonly key: Uint8Array;
  /** Of the run that begins. */
  readonly session: Session;
  readonly service: string;
  readonly codec: StateCodec;
  readonly store: StreamStore<S>;
  /** Fields of a stream that this instance serves. May throw. */
  readonly save: (stream: S) => Readonly<Record<string, FieldValue>>;
  readonly tell: (reason: SyncRefusal, why: string) => void;
  readonly fault?: Fault | undefined;
}

/** Streams of the map before that are looked at in one tick, and for how long: packets come in between. */
const WALK_STREAMS = 100;
const WALK_MS = 1;

export interface SyncCounts {
  readonly mode: SyncMode;
  readonly recordsSent: number;
  readonly recordsKept: number;
  readonly acknowledged: number;
  readonly saidAgain: number;
  /** Packets that left with nobody to keep a second copy. */
  readonly unprotected: number;
  /** Streams with a change that the other one does not have, and for how long the oldest. */
  readonly waitingStreams: number;
  readonly lagMs: number;
  readonly fillLeft: number;
  readonly refused: Readonly<Record<string, number>>;
}

export class StateSync<S extends SyncedStream> {
  readonly refusals: Refusals<SyncRefusal>;
  readonly #copies: Copies<S>;
  readonly #outbox: Outbox<S>;
  #session: Session;
  #view: MapView | null = null;
  #mode: SyncMode = 'off';
  #touched = new Set<S>();
  #holding = new Set<Entry<S>>();
  /** Streams of the map before, still to be looked at. */
  #walk: S[] = [];
  /** Every state gets a version of its own; those of others that are taken over count as used. */
  #version = 0;
  #sequence = 0;
  #counts = { acknowledged: 0, unprotected: 0 };
  #sabotaged = 0;

  constructor(private readonly options: StateSyncOptions<S>) {
    this.#session = options.session;
    this.refusals = new Refusals(options.tell);
    this.#copies = new Copies({ ...options, forget: (stream) => this.#letGo(stream) }, this.refusals);
    this.#outbox = new Outbox({
      now: options.now,
      nextSequence: () => ++this.#sequence,
      send: (to, sequence, body) => this.#send(to, 'sync', sequence, body),
      recordOf: (entry) => this.#recordOf(entry),
      refuse: (error) => this.#copies.refuse(error),
      kept: (entry, version) => this.#kept(entry, version),
    });
  }

  get mode(): SyncMode {
    return this.#mode;
  }

  /** Whether tick() has anything to do. */
  get busy(): boolean {
    return this.#walk.length > 0 || this.#outbox.busy;
  }

  get counts(): SyncCounts {
    const { streams, sinceMs, fill } = this.#outbox.waiting;
    const lagMs = sinceMs === Infinity ? 0 : Math.max(0, this.options.now() - sinceMs);
    return { mode: this.#mode, ...this.#counts, ...this.#outbox.counts, recordsKept: this.#copies.kept, waitingStreams: streams, lagMs, fillLeft: this.#walk.length + fill, refused: this.refusals.counts };
  }

  /** A newer map. Streams that this instance no longer serves are let go; those that it is the first for now, it serves. */
  install(view: MapView): void {
    if (this.options.fault === 'use_the_old_map' && this.#view !== null) return;
    this.#view = view;
    this.#mode = view.syncOf(this.options.service);
    this.#outbox.keepOnly((session) => view.bySession(session) !== null);
    for (const entry of [...this.#holding]) this.#follow(entry.stream);
    // Not at once: packets wait for this map, and their streams follow it as they come.
    this.#walk = this.options.store.all();
  }

  /** Another run begins, which has no stream: the one before was given up. */
  renew(session: Session): void {
    this.#session = session;
    for (const stream of this.options.store.all()) this.#letGo(stream);
    this.#outbox.keepOnly(() => false);
    this.#copies.renew(session);
    this.#touched.clear();
    this.#walk = [];
  }

  /** Where the stream stands on the map: null when this instance is not among those that serve it. `undefined`: the path is not on the map. */
  #others(stream: S): readonly MapInstance[] | null | undefined {
    const ranked = this.#view?.ranked(stream.path, this.options.service, stream.code) ?? null;
    if (ranked === null) return undefined;
    const own = this.#session;
    if (!ranked.some(({ session }) => session === own)) return null;
    return ranked.filter(({ session }) => session !== own);
  }

  #entryOf(stream: S): Entry<S> {
    const known = stream.sync as Entry<S> | null;
    if (known !== null) return known;
    const entry: Entry<S> = { stream, mapVersion: 0, target: null, acked: 0, sent: 0, values: null, flags: 0, mask: null, dirtySinceMs: 0, ended: false, waiting: [] };
    stream.sync = entry;
    return entry;
  }

  /** Has a stream follow the map. False when it is no longer this instance's. */
  #follow(stream: S): boolean {
    const view = this.#view;
    if (view === null || stream.gone) return !stream.gone;
    const others = this.#others(stream);
    if (stream.copy !== null) {
      // Of a path that is gone no stream is left.
      if (others === null || others === undefined) this.options.store.forget(stream);
      else if (this.#isFirst(stream) && this.options.store.serve(stream, this.options.now())) this.#adopt(stream);
      return !stream.gone;
    }
    const entry = this.#entryOf(stream);
    entry.mapVersion = view.map.version;
    if (others === null) {
      this.#letGo(stream);
      return false;
    }
    const to = others?.[0] ?? null;
    if (entry.target?.instance.session === to?.session) {
      if (to === null) this.#unprotect(entry);
      return true;
    }
    if (entry.target !== null) for (const set of [entry.target.urgent, entry.target.background, entry.target.later]) set.delete(entry);
    entry.target = to === null ? null : this.#outbox.peer(to);
    entry.acked = 0;
    entry.mask = null;
    if (entry.target === null) this.#unprotect(entry);
    else if (this.#mode !== 'off') (entry.waiting.length > 0 ? entry.target.urgent : entry.target.background).add(entry);
    return true;
  }

  #isFirst(stream: S): boolean {
    return this.#view?.ranked(stream.path, this.options.service, stream.code)?.[0]?.session === this.#session;
  }

  /** The stream is not this instance's, and its packets are dropped: those that wait no longer do, or all that came after them would. */
  #letGo(stream: S): void {
    this.options.store.forget(stream);
    const entry = stream.sync as Entry<S> | null;
    if (entry === null) return;
    for (const { hold } of entry.waiting.splice(0)) hold.done();
    this.#holding.delete(entry);
  }

  /** It was another one's until now. */
  #adopt(stream: S): void {
    const entry = this.#entryOf(stream);
    entry.mapVersion = 0;
    this.#version = Math.max(this.#version, stream.stateVersion);
    this.#follow(stream);
  }

  #unprotect(entry: Entry<S>): void {
    const waiting = entry.waiting.splice(0);
    this.#counts.unprotected += waiting.length;
    for (const { hold } of waiting) hold.done();
    this.#holding.delete(entry);
  }

  /**
   * Whether a stream that this instance does not serve yet may be served by it. Packets may come to the second before the map does that makes
   * it the first. But to who has joined a path late may also come what was meant for a run of it before: it serves when it is the first.
   */
  mayServe(path: number, code: number): boolean {
    const { service } = this.options;
    const view = this.#view;
    return view?.isLate(path, service, this.#session) !== true || view.ranked(path, service, code)?.[0]?.session === this.#session;
  }

  /** A packet of the stream is being worked on. False: this instance may not, by the map it has. */
  touch(stream: S, path: number): boolean {
    if (stream.lost) return false;
    const known = stream.sync as Entry<S> | null;
    const moved = stream.path !== path;
    if (moved) {
      const before = known?.target ?? null;
      stream.path = path;
      if (before !== null && known !== null) known.mapVersion = 0;
    }
    if (this.#view === null) {
      // Nobody knows yet whose streams these are: after a restart they may be others' by now, with a state that this run does not have.
      this.options.store.forget(stream);
      return false;
    }
    if (this.#mode === 'off') return true;
    if (known === null) {
      // New here, or it has just been taken over from a copy.
      const entry = this.#entryOf(stream);
      this.#version = Math.max(this.#version, stream.stateVersion);
      entry.mapVersion = 0;
    }
    const entry = this.#entryOf(stream);
    if (entry.mapVersion !== this.#view.map.version && !this.#follow(stream)) return false;
    if (this.#mode === 'strict' && this.#others(stream) === undefined) return false;
    this.#touched.add(stream);
    return true;
  }

  /**
   * What has been touched is said to those who keep it. Under `strict` the packets have to be held until `released` is called; null: they may
   * leave at once.
   */
  seal(released: () => void): Hold | null {
    if (this.#touched.size === 0) return null;
    const strict = this.#mode === 'strict';
    let hold: Hold | null = null;
    for (const stream of this.#touched) {
      if (stream.gone) continue; // ended meanwhile
      const entry = this.#entryOf(stream);
      try {
        this.#note(entry);
      } catch (error) {
        this.#copies.refuse(error);
        if (strict) this.#letGo(stream); // what its packets did could be forgotten: they stay here
        entry.target?.background.delete(entry);
        continue;
      }
      if (!strict || entry.acked >= stream.stateVersion) continue;
      if (entry.target === null) {
        this.#counts.unprotected++;
        continue;
      }
      hold ??= new Hold(released);
      entry.waiting.push({ version: stream.stateVersion, hold: hold.one() });
      this.#holding.add(entry);
      if (entry.sent < stream.stateVersion || !this.#underWay(entry)) soon(entry.target, entry);
      if (this.options.fault === 'acknowledge_early') this.#kept(entry, stream.stateVersion);
    }
    this.#touched.clear();
    this.#outbox.flush();
    hold?.sealed();
    return hold;
  }

  #underWay(entry: Entry<S>): boolean {
    const { target } = entry;
    return target !== null && (target.urgent.has(entry) || target.background.has(entry) || target.later.has(entry) || entry.acked < entry.sent);
  }

  /** A new version, if anything has changed. */
  #note(entry: Entry<S>): void {
    const { stream } = entry;
    const flags = (stream.answered ? 8 : 0) | stream.ends;
    const values = this.options.codec.values(this.options.save(stream));
    const changed = entry.values === null ? null : this.options.codec.difference(entry.values, values);
    if (entry.values !== null && changed === null && entry.flags === flags) return;
    stream.stateVersion = ++this.#version;
    if (entry.acked > 0) entry.mask = joined(entry.mask, changed, this.options.codec.maskBytes);
    if (!entry.target?.urgent.has(entry)) entry.dirtySinceMs = this.options.now();
    entry.values = values;
    entry.flags = flags;
    if (this.options.fault === 'skip_one_sync' && ++this.#sabotaged % 8 === 0) entry.acked = stream.stateVersion;
    else if (entry.target !== null) soon(entry.target, entry);
  }

  /** The stream has ended here; whoever has a copy is told. */
  end(stream: S): void {
    const entry = stream.sync as Entry<S> | null;
    this.#touched.delete(stream);
    if (entry === null || this.#mode === 'off') return;
    for (const { hold } of entry.waiting.splice(0)) hold.done();
    this.#holding.delete(entry);
    if (entry.target === null || (entry.acked === 0 && entry.sent === 0)) return;
    entry.ended = true;
    stream.stateVersion = ++this.#version;
    soon(entry.target, entry);
  }

  tick(): void {
    this.#walkOn();
    this.#outbox.tick();
  }

  /** Streams of the map before follow the new one, some at a time. */
  #walkOn(): void {
    const begunMs = this.options.now();
    for (let n = 0; n < WALK_STREAMS && this.options.now() - begunMs < WALK_MS; n++) {
      const stream = this.#walk.pop();
      if (stream === undefined) return;
      if (!stream.gone) this.#follow(stream);
    }
  }

  #recordOf(entry: Entry<S>): SyncRecord {
    const { stream } = entry;
    const head = { code: stream.code, path: stream.path, tuple: stream as StreamTuple, answered: (entry.flags & 8) !== 0, ends: entry.flags & 7 };
    if (entry.ended) return { ...head, kind: 'end', version: stream.stateVersion, base: 0, state: new Uint8Array(0) };
    if (entry.values === null) {
      // Taken over, and not touched since.
      entry.values = this.options.codec.values(this.options.save(stream));
      entry.flags = (stream.answered ? 8 : 0) | stream.ends;
      if (stream.stateVersion === 0) stream.stateVersion = ++this.#version;
      return { ...head, answered: stream.answered, ends: stream.ends, kind: 'full', version: stream.stateVersion, base: 0, state: this.options.codec.encode(entry.values, null) };
    }
    const delta = entry.acked > 0 && entry.acked < stream.stateVersion;
    const mask = delta ? (entry.mask ?? new Uint8Array(this.options.codec.maskBytes)) : null;
    return { ...head, kind: delta ? 'delta' : 'full', version: stream.stateVersion, base: delta ? entry.acked : 0, state: this.options.codec.encode(entry.values, mask) };
  }

  #send({ address, session, syncPort }: MapInstance, kind: Kind, sequence: number, body: Buffer): void {
    const { key, now } = this.options;
    this.options.send({ address, port: syncPort }, seal({ kind, from: this.#session, to: session, sequence, atMs: now(), body }, key));
  }

  receive(datagram: Uint8Array): void {
    const read = open(datagram, this.options.key);
    if ('refused' in read) return this.refusals.add(read.refused, read.why);
    if (read.to !== this.#session) return this.refusals.add('not_for_us', 'it is for another run of this instance');
    const sender = this.#view?.bySession(read.from) ?? null;
    if (sender === null || sender.key.slice(0, sender.key.indexOf('/')) !== this.options.service) {
      if (this.#view !== null) this.refusals.add('stranger', `a run ${read.from} that is no instance of ${this.options.service} on the map`);
      return;
    }
    if (read.kind === 'ack') return this.#outbox.acknowledged(read.from, read.body);
    if (read.kind !== 'sync') return this.refusals.add('malformed', `a message of kind ${read.kind} makes no sense here`);
    const results: Result[] = [];
    const from = new Reader(read.body);
    try {
      while (!from.over) results.push(this.#copies.take(readRecord(from), sender, this.#view));
    } catch (error) {
      this.#copies.refuse(error);
      results.push('refused');
    }
    this.#send(sender, 'ack', ++this.#sequence, encodeAck(read.sequence, results));
  }

  #kept(entry: Entry<S>, version: number): void {
    this.#counts.acknowledged++;
    if (version > entry.acked) {
      // What changed since is still to be said; what was said after this one is in the mask, too.
      if (version === entry.stream.stateVersion) entry.mask = null;
      else if (entry.acked === 0) entry.mask = full(this.options.codec.maskBytes);
      entry.acked = version;
    }
    const { waiting } = entry;
    while (waiting.length > 0 && (waiting[0]?.version ?? 0) <= version) waiting.shift()?.hold.done();
    if (waiting.length === 0) this.#holding.delete(entry);
  }
}

const full = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(255);

function joined(before: Uint8Array | null, more: Uint8Array | null, bytes: number): Uint8Array {
  const mask = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) mask[i] = (before?.[i] ?? 0) | (more?.[i] ?? 0);
  return mask;
}
