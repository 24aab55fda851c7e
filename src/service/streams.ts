/**
 * The state of each stream, bounded. Streams are found by their affinity code, a number, and told apart from others with the same code by
 * addresses and ports. Those that have been seen in one direction only are kept apart, so that a flood of opening packets drives out
 * its own kind and not the streams that are in use.
 */
import { LRUCache } from 'lru-cache';
import { sameStream, type StreamTuple } from '../mesh/sync/record.js';
import type { FieldValue } from '../mesh/sync/state-codec.js';
import { i32 } from './bytes.js';
import { TCP, UNKNOWN, type Packet } from './packet.js';
import { ACK, FIN, RST, SYN } from './packet-views.js';
import type { StreamEnd } from './service-function.js';

/** Codes are 32-bit hashes: streams that share one get this many places. */
const PLACES = 4;
const NEXT_PLACE = 2 ** 32;
/** One-way streams, of the most there may be. */
const OPENING_SHARE = 4;

const IDLE_TCP_MS = 350_000;
const IDLE_OTHER_MS = 120_000;
const IDLE_CLOSED_MS = 5_000;
/** No function can have a stream end sooner. */
const LEAST_IDLE_MS = 1_000;

const FIN_ORIGINAL = 1;
const FIN_ANSWER = 2;
const RESET = 4;

export class Stream<State> implements StreamTuple {
  state!: State;
  /** Another instance serves it: these are the fields of its state. */
  copy: readonly FieldValue[] | null = null;
  /** Of the state, counted by those who serve the stream; 0: none has been said of it. */
  stateVersion = 0;
  /** Path that its last packet was on. */
  path = 0;
  /** It is no longer kept: nothing of it counts. */
  gone = false;
  /** Another instance serves it: what its packets did here must not leave. */
  lost = false;
  /** What the sync of state knows of it. */
  sync: unknown = null;
  lastMs = 0;
  /** Seen in both directions. */
  answered = false;
  /** FIN_ORIGINAL, FIN_ANSWER, RESET. */
  ends = 0;
  // The tuple, as the first packet travelled. Addresses are 32-bit words; IPv4 has one each.
  version = 0;
  protocol = 0;
  fromPort = 0;
  toPort = 0;
  f0 = 0;
  f1 = 0;
  f2 = 0;
  f3 = 0;
  t0 = 0;
  t1 = 0;
  t2 = 0;
  t3 = 0;

  constructor(readonly key: number) {}

  /** Affinity code. */
  get code(): number {
    return this.key % NEXT_PLACE;
  }

  get closed(): boolean {
    return this.ends >= RESET || this.ends === (FIN_ORIGINAL | FIN_ANSWER);
  }
}

export interface StreamOptions<State> {
  /** Streams at a time; of them a quarter more may have been seen in one direction only. */
  readonly max: number;
  readonly newState: (packet: Packet) => State;
  readonly onEnd?: ((state: State, why: StreamEnd, stream: Stream<State>) => void) | undefined;
  /** The state of a stream that another instance has served. What it throws costs that state. */
  readonly restore?: ((stream: Stream<State>, fields: readonly FieldValue[]) => State) | undefined;
  /** Of a packet whose stream is not served here yet: whether it may be. Default: it may. */
  readonly mayServe?: ((packet: Packet) => boolean) | undefined;
  /** Milliseconds; with it, nothing else ends a stream but the function. */
  readonly idleMs?: ((state: State) => number) | undefined;
}

export class Streams<State> {
  readonly #used: LRUCache<number, Stream<State>>;
  readonly #opening: LRUCache<number, Stream<State>>;
  /** Served by others; each comes over when its first packet arrives here. */
  readonly #copies: LRUCache<number, Stream<State>>;
  #evicted = 0;

  constructor(private readonly options: StreamOptions<State>) {
    const dispose = (stream: Stream<State>, _key: number, reason: string): void => {
      if (reason !== 'evict') return;
      this.#evicted++;
      stream.gone = true;
      this.options.onEnd?.(stream.state, 'evicted', stream);
    };
    this.#used = new LRUCache({ max: options.max, dispose });
    this.#opening = new LRUCache({ max: Math.max(1, Math.ceil(options.max / OPENING_SHARE)), dispose });
    this.#copies = new LRUCache({ max: options.max, dispose: (stream, _key, reason) => (stream.gone ||= reason === 'evict') });
  }

  /** Streams that others serve, and would leave to this one. */
  get copies(): number {
    return this.#copies.size;
  }

  get size(): number {
    return this.#used.size + this.#opening.size;
  }

  /** Streams that went because others needed the room. */
  get evicted(): number {
    return this.#evicted;
  }

  /** The packet's stream, a new one if need be; says in the packet which way it travels. */
  find(packet: Packet, nowMs: number): Stream<State> {
    let key = packet.code;
    for (let place = 1; ; place++) {
      let stream = this.#used.get(key);
      const opening = stream === undefined;
      if (opening) stream = this.#opening.get(key);
      if (stream === undefined) {
        if (this.options.mayServe?.(packet) === false) return this.#strange(key, packet);
        stream = this.#copies.size === 0 ? undefined : this.#copies.peek(key);
        if (stream !== undefined && travels(stream, packet) !== 0 && !this.serve(stream, nowMs)) stream = undefined;
      }
      if (stream === undefined) return this.#open(key, packet, nowMs);
      const way = travels(stream, packet);
      if (way !== 0) {
        packet.original = way > 0;
        if (packet.laterFragment) packet.protocol = packet.tupleProtocol = stream.protocol;
        // The same ports once more.
        if (stream.closed && this.options.idleMs === undefined && (packet.tcpFlags & (SYN | ACK | RST)) === SYN && !packet.related) {
          this.end(stream, 'closed');
          return this.#open(key, packet, nowMs);
        }
        if (opening && !stream.answered && way < 0 && !packet.related) {
          this.#opening.delete(key);
          stream.answered = true;
          this.#used.set(key, stream);
        }
        stream.lastMs = nowMs;
        this.#see(stream, packet);
        return stream;
      }
      // Made by a later fragment that came before its first one: those that follow would find it and not the stream that begins now.
      const nameless = stream.version === 6 && stream.protocol === UNKNOWN;
      if (place === PLACES || nameless) {
        this.end(stream, 'evicted');
        this.#evicted++;
        return this.#open(key, packet, nowMs);
      }
      key += NEXT_PLACE;
    }
  }

  end(stream: Stream<State>, why: StreamEnd): void {
    const cache = stream.answered ? this.#used : this.#opening;
    if (cache.peek(stream.key) !== stream) return;
    cache.delete(stream.key);
    stream.gone = true;
    this.options.onEnd?.(stream.state, why, stream);
  }

  /** The stream with this code and tuple, whoever serves it. */
  known(code: number, tuple: StreamTuple): Stream<State> | null {
    for (let place = 0, key = code; place < PLACES; place++, key += NEXT_PLACE) {
      const stream = this.#used.peek(key) ?? this.#opening.peek(key) ?? this.#copies.peek(key);
      if (stream !== undefined && sameStream(stream, tuple)) return stream;
    }
    return null;
  }

  /** A copy of a stream that another instance serves. Null: there is no place for it. */
  copy(code: number, tuple: StreamTuple): Stream<State> | null {
    for (let place = 0, key = code; place < PLACES; place++, key += NEXT_PLACE) {
      if (this.#used.has(key) || this.#opening.has(key) || this.#copies.has(key)) continue;
      const stream = new Stream<State>(key);
      const { version, protocol, fromPort, toPort, f0, f1, f2, f3, t0, t1, t2, t3 } = tuple;
      Object.assign(stream, { version, protocol, fromPort, toPort, f0, f1, f2, f3, t0, t1, t2, t3 });
      this.#copies.set(key, stream);
      return stream;
    }
    return null;
  }

  /** A copy that this instance serves from now on. False: its state can't be used, and it is gone. */
  serve(stream: Stream<State>, nowMs: number): boolean {
    const fields = stream.copy;
    if (this.#copies.peek(stream.key) !== stream) return false;
    this.#copies.delete(stream.key);
    try {
      if (fields === null || this.options.restore === undefined) throw new Error('no state');
      stream.state = this.options.restore(stream, fields);
    } catch {
      stream.gone = true;
      return false;
    }
    stream.copy = null;
    stream.lastMs = nowMs;
    (stream.answered ? this.#used : this.#opening).set(stream.key, stream);
    return true;
  }

  /** Without a word to whoever it was for: another instance serves it, or has it. */
  forget(stream: Stream<State>): void {
    stream.gone = stream.lost = true;
    for (const cache of [this.#used, this.#opening, this.#copies]) if (cache.peek(stream.key) === stream) cache.delete(stream.key);
    if (stream.copy === null) this.options.onEnd?.(stream.state, 'moved', stream);
  }

  /** Of both kinds, as they are at this moment. */
  all(): Stream<State>[] {
    return [...this.#used.values(), ...this.#opening.values(), ...this.#copies.values()];
  }

  /** Ends what has been idle for too long. */
  sweep(nowMs: number): void {
    for (const cache of [this.#used, this.#opening]) {
      for (const [, stream] of [...this.#idle(cache, nowMs)]) this.end(stream, stream.closed ? 'closed' : 'idle');
    }
  }

  /** Ends the least recently seen part of all streams (0 to 1). */
  shed(part: number): void {
    for (const cache of [this.#used, this.#opening]) {
      for (let n = Math.ceil(cache.size * part); n > 0; n--) {
        const oldest = cache.rkeys().next().value;
        const stream = oldest === undefined ? undefined : cache.peek(oldest);
        if (stream === undefined) break;
        this.#evicted++;
        this.end(stream, 'evicted');
      }
    }
  }

  stop(): void {
    for (const cache of [this.#used, this.#opening]) for (const stream of [...cache.values()]) this.end(stream, 'stopped');
  }

  *states(): Generator<State> {
    for (const cache of [this.#used, this.#opening]) for (const stream of cache.values()) yield stream.state;
  }

  /** From the least recently seen on, as far as there can be any. */
  *#idle(cache: LRUCache<number, Stream<State>>, nowMs: number): Generator<[number, Stream<State>]> {
    for (const key of cache.rkeys()) {
      const stream = cache.peek(key);
      if (stream === undefined) continue;
      const age = nowMs - stream.lastMs;
      if (age < (this.options.idleMs === undefined ? IDLE_CLOSED_MS : LEAST_IDLE_MS)) return;
      if (age >= this.#idleMs(stream)) yield [key, stream];
    }
  }

  #idleMs(stream: Stream<State>): number {
    if (this.options.idleMs !== undefined) return this.options.idleMs(stream.state);
    if (stream.protocol !== TCP) return IDLE_OTHER_MS;
    return stream.closed ? IDLE_CLOSED_MS : IDLE_TCP_MS;
  }

  /** For a packet that is another instance's: nothing of it is kept. */
  #strange(key: number, packet: Packet): Stream<State> {
    packet.original = true;
    const stream = new Stream<State>(key);
    stream.state = this.options.newState(packet);
    stream.gone = stream.lost = true;
    return stream;
  }

  #open(key: number, packet: Packet, nowMs: number): Stream<State> {
    packet.original = true;
    const state = this.options.newState(packet); // may throw: then there is no stream
    const stream = new Stream<State>(key);
    stream.state = state;
    stream.lastMs = nowMs;
    stream.version = packet.version;
    stream.protocol = packet.tupleProtocol;
    if (packet.version !== 0) {
      const { memory, tupleFrom, tupleTo } = packet;
      stream.fromPort = packet.tupleFromPort;
      stream.toPort = packet.tupleToPort;
      stream.f0 = i32(memory, tupleFrom);
      stream.t0 = i32(memory, tupleTo);
      if (packet.version === 6) {
        stream.f1 = i32(memory, tupleFrom + 4);
        stream.f2 = i32(memory, tupleFrom + 8);
        stream.f3 = i32(memory, tupleFrom + 12);
        stream.t1 = i32(memory, tupleTo + 4);
        stream.t2 = i32(memory, tupleTo + 8);
        stream.t3 = i32(memory, tupleTo + 12);
      }
    }
    this.#see(stream, packet);
    this.#opening.set(key, stream);
    return stream;
  }

  #see(stream: Stream<State>, packet: Packet): void {
    const flags = packet.tcpFlags;
    if ((flags & (FIN | RST)) === 0) return;
    stream.ends |= (flags & RST) !== 0 ? RESET : packet.original ? FIN_ORIGINAL : FIN_ANSWER;
  }
}

/** 1: as the stream's first packet; -1: the other way; 0: it is another stream's. */
function travels<State>(stream: Stream<State>, packet: Packet): number {
  const { version } = packet;
  if (stream.version !== version) return 0;
  if (stream.protocol !== packet.tupleProtocol && !(packet.laterFragment && packet.tupleProtocol === UNKNOWN)) return 0;
  if (version === 0) return 1;
  const { memory, tupleFrom, tupleTo, tuplePorts } = packet;
  const from = i32(memory, tupleFrom);
  const to = i32(memory, tupleTo);
  // A later fragment has no ports: its code is that of its first part.
  if (stream.f0 === from && stream.t0 === to && (!tuplePorts || (stream.fromPort === packet.tupleFromPort && stream.toPort === packet.tupleToPort))) {
    if (version === 4 || (sameRest(stream.f1, stream.f2, stream.f3, memory, tupleFrom) && sameRest(stream.t1, stream.t2, stream.t3, memory, tupleTo))) return 1;
  }
  if (stream.f0 === to && stream.t0 === from && (!tuplePorts || (stream.fromPort === packet.tupleToPort && stream.toPort === packet.tupleFromPort))) {
    if (version === 4 || (sameRest(stream.f1, stream.f2, stream.f3, memory, tupleTo) && sameRest(stream.t1, stream.t2, stream.t3, memory, tupleFrom))) return -1;
  }
  return 0;
}

const sameRest = (a: number, b: number, c: number, memory: Uint8Array, at: number): boolean =>
  a === i32(memory, at + 4) && b === i32(memory, at + 8) && c === i32(memory, at + 12);
