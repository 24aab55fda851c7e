/**
 * A function at work on slabs of packets. Whatever goes wrong with a packet costs that packet and no other. Knows nothing of threads or of
 * native code but the shape of a slab.
 */
import type { Logger } from '../observe/log.js';
import { FaultLog, faultOf, type After } from './faults.js';
import type { Hold } from '../mesh/sync/hold.js';
import { StateCodec, type FieldValue } from '../mesh/sync/state-codec.js';
import type { StateSync } from '../mesh/sync/state-sync.js';
import { addressOfWords } from './bytes.js';
import { Metrics } from './metrics.js';
import { Packet } from './packet.js';
import type { Batch, FunctionNode, NodeIdentity, RestoredStream, ServiceFunction, Verdict } from './service-function.js';
import { Streams, type Stream } from './streams.js';
import { Timers } from './timers.js';
import { readVerdict } from './verdict.js';

/** Words of a row (native/node/function_queue.h). */
const ROW = 5;
const FORWARD = 1;
const DROP = 2;
const REPLACE = 3;
const NONE = 0;

export const MOST_STREAMS = 100_000;

/** What is going on, for whoever looks from another thread. */
export const STEPS = ['nothing', 'configure()', 'start()', 'packets', 'a timer', 'flush()', 'onStreamEnd()'] as const;
export type Step = (typeof STEPS)[number];

export interface SlabLayout {
  readonly packets: number;
  readonly verdictsAt: number;
}

/** Views of one slab, made once. */
export interface SlabViews {
  readonly rows: Int32Array;
  readonly bytes: Uint8Array;
}

export function slabViews(slab: ArrayBufferLike, { packets }: SlabLayout): SlabViews {
  return { rows: new Int32Array(slab, 0, packets * ROW), bytes: new Uint8Array(slab) };
}

export interface HandlerOptions {
  readonly identity: NodeIdentity;
  readonly log: Logger;
  readonly layout: SlabLayout;
  readonly maxStreams?: number;
  readonly nowMs?: () => number;
  readonly after?: After;
  /** Keeps what the function's `state` says of a stream at another instance, too. */
  readonly sync?: (store: Streams<unknown>, save: (stream: Stream<unknown>) => Readonly<Record<string, FieldValue>>, codec: StateCodec) => StateSync<Stream<unknown>>;
  /** Told what is begun; `nothing` when it is done. */
  readonly step?: (step: Step) => void;
}

/** The function's name, whatever it has there. */
export function nameOf(service: ServiceFunction): string {
  try {
    if (typeof service.name === 'string') return service.name;
  } catch {
    // as good as none
  }
  return 'without a name';
}

/** The stream of each packet of a slab: whether it is this instance's at the moment that the packet leaves. */
type Worked = { readonly lost: boolean };
const NOT_OURS: Worked = { lost: true };

export class Handler {
  readonly metrics = new Metrics();
  readonly faults: FaultLog;
  readonly streams: Streams<unknown>;
  /** Null: nothing is said of streams to others. */
  readonly sync: StateSync<Stream<unknown>> | null;
  readonly #worked: Worked[] = [];
  readonly #timers: Timers;
  readonly #node: FunctionNode;
  readonly #codec: StateCodec | null;
  readonly #packet = new Packet();
  readonly #batch: BatchOfSlab;
  readonly #clock: () => number;
  readonly #step: (step: Step) => void;
  #nowMs: number;

  constructor(
    private readonly service: ServiceFunction,
    private readonly options: HandlerOptions,
  ) {
    const { identity, log, after } = options;
    this.#clock = options.nowMs ?? Date.now;
    this.#step = options.step ?? (() => undefined);
    this.#nowMs = this.#clock();
    this.faults = new FaultLog(log, nameOf(service), after);
    this.#timers = new Timers(this.faults, (work) => this.#during('a timer', work));
    this.streams = new Streams({
      max: options.maxStreams ?? MOST_STREAMS,
      newState: (packet) => (service.newStream === undefined ? null : service.newStream(packet, this.#node)),
      onEnd: (state, why, stream) => {
        if (why !== 'moved' && why !== 'stopped') this.sync?.end(stream);
        if (service.onStreamEnd !== undefined) this.#contained('onStreamEnd()', () => service.onStreamEnd?.(state, why, this.#node));
      },
      mayServe: (packet) => this.sync?.mayServe(packet.spi >>> 1, packet.code) !== false,
      restore: service.state === undefined ? undefined : (stream, fields) => this.#restore(stream, fields),
      idleMs: service.idleMs === undefined ? undefined : (state) => this.#idleMs(state),
    });
    const own = this;
    this.#node = {
      service: identity.service,
      name: identity.name,
      log,
      get nowMs() {
        return own.#nowMs;
      },
      get streams() {
        return own.streams.size;
      },
      every: (milliseconds, work) => this.#timers.every(milliseconds, work),
      after: (milliseconds, work) => this.#timers.after(milliseconds, work),
      counter: (name, help) => this.metrics.counter(name, help),
      gauge: (name, help) => this.metrics.gauge(name, help),
    };
    const { state } = service;
    const codec = state === undefined ? null : new StateCodec(state);
    this.#codec = codec;
    this.sync = state === undefined || codec === null || options.sync === undefined ? null : options.sync(this.streams, (stream) => state.save(stream.state, this.#node), codec);
    this.#batch = new BatchOfSlab(this.#packet, this.streams, options.layout, this.sync, this.#worked);
  }

  /** Throws what the function throws: why it refuses these settings. */
  configure(settings: unknown): void {
    this.#during('configure()', () => this.service.configure?.(settings, this.#node));
  }

  start(): void {
    this.#during('start()', () => this.service.start?.(this.#node));
  }

  /** Answers the slab's first `count` packets. Gives replacements as native code takes them: [index, bytes, …]. */
  handle(slab: SlabViews, count: number): (number | Uint8Array)[] | undefined {
    this.#nowMs = this.#clock();
    this.#step('packets');
    const replacements = this.service.onBatch === undefined ? this.#each(slab, count) : this.#all(slab, count);
    this.#step('nothing');
    return replacements;
  }

  /**
   * Says to others what the slab at hand has done, and whether its packets may leave: null, or what they wait for. `released` is called when
   * that is over. The slab is to be given to `leave` then.
   */
  seal(released: () => void): { readonly hold: Hold | null; readonly worked: readonly Worked[] } {
    const worked = this.#worked.splice(0);
    return { hold: this.sync?.seal(released) ?? null, worked };
  }

  /** Packets of streams that are another instance's by now stay here. */
  leave({ bytes }: SlabViews, worked: readonly Worked[]): void {
    const { verdictsAt } = this.options.layout;
    worked.forEach((stream, i) => {
      if (stream.lost) bytes[verdictsAt + i] = NONE;
    });
  }

  #restore(stream: Stream<unknown>, fields: readonly FieldValue[]): unknown {
    const { state } = this.service;
    if (state === undefined || this.#codec === null) throw new Error('the function declares no state');
    const { code, protocol, version } = stream;
    const text = (a: number, b: number, c: number, d: number): string => addressOfWords(version, a, b, c, d);
    const restored: RestoredStream = { code, protocol, source: text(stream.f0, stream.f1, stream.f2, stream.f3), sourcePort: stream.fromPort, destination: text(stream.t0, stream.t1, stream.t2, stream.t3), destinationPort: stream.toPort };
    try {
      return state.load(this.#codec.named(fields), restored, this.#node);
    } catch (error) {
      this.faults.add(faultOf('state.load()', error));
      throw error;
    }
  }

  sweep(): void {
    this.#nowMs = this.#clock();
    this.streams.sweep(this.#nowMs);
  }

  /** What fails is a fault of the function. */
  async flush(): Promise<void> {
    this.#nowMs = this.#clock();
    try {
      let work: void | Promise<void> = undefined;
      this.#during('flush()', () => (work = this.service.flush?.(this.#node)));
      await work;
    } catch (error) {
      this.faults.add(faultOf('flush()', error));
    }
  }

  async stop(): Promise<void> {
    this.#nowMs = this.#clock();
    this.#timers.stop();
    this.streams.stop();
    await this.flush();
  }

  #each({ rows, bytes }: SlabViews, count: number): (number | Uint8Array)[] | undefined {
    const packet = this.#packet;
    const node = this.#node;
    const { service, streams, sync } = this;
    const nowMs = this.#nowMs;
    const { verdictsAt } = this.options.layout;
    let replacements: (number | Uint8Array)[] | undefined;
    for (let i = 0; i < count; i++) {
      let step = 'newStream()';
      try {
        place(packet, rows, bytes, i);
        const stream = streams.find(packet, nowMs);
        if (sync !== null) {
          this.#worked[i] = stream;
          if (!sync.touch(stream, packet.spi >>> 1)) {
            this.#worked[i] = NOT_OURS;
            continue;
          }
        }
        step = 'onPacket()';
        const answer: unknown = service.onPacket?.(packet, stream.state, node);
        if (packet.ending) streams.end(stream, 'ended');
        if (answer === 'forward') {
          bytes[verdictsAt + i] = FORWARD;
        } else if (answer === 'drop') {
          bytes[verdictsAt + i] = DROP;
        } else {
          step = 'its answer';
          replacements = write(bytes, verdictsAt, i, readVerdict(answer), replacements);
        }
      } catch (error) {
        bytes[verdictsAt + i] = NONE;
        this.faults.add(faultOf(step, error));
      }
    }
    return replacements;
  }

  #all(slab: SlabViews, count: number): (number | Uint8Array)[] | undefined {
    const batch = this.#batch;
    batch.begin(slab, count, this.#nowMs);
    try {
      this.service.onBatch?.(batch, this.#node);
    } catch (error) {
      this.faults.add(faultOf('onBatch()', error));
    }
    return batch.finish();
  }

  #idleMs(state: unknown): number {
    let idle = 0;
    this.#contained('idleMs()', () => (idle = this.service.idleMs?.(state) ?? 0));
    return idle;
  }

  #contained(what: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.faults.add(faultOf(what, error));
    }
  }

  #during(step: Step, work: () => void): void {
    this.#nowMs = this.#clock();
    this.#step(step);
    try {
      work();
    } finally {
      this.#step('nothing');
    }
  }
}

function place(packet: Packet, rows: Int32Array, bytes: Uint8Array, i: number): void {
  const row = i * ROW;
  packet.place(bytes, rows[row] ?? 0, rows[row + 1] ?? 0, (rows[row + 2] ?? 0) >>> 0, (rows[row + 3] ?? 0) >>> 0, rows[row + 4] ?? 0);
}

function write(bytes: Uint8Array, verdictsAt: number, i: number, verdict: boolean | Uint8Array, replacements: (number | Uint8Array)[] | undefined): (number | Uint8Array)[] | undefined {
  if (typeof verdict === 'boolean') {
    bytes[verdictsAt + i] = verdict ? FORWARD : DROP;
    return replacements;
  }
  bytes[verdictsAt + i] = REPLACE;
  const all = replacements ?? [];
  all.push(i, verdict);
  return all;
}

/** A slab as onBatch() sees it. */
class BatchOfSlab implements Batch<unknown> {
  #slab: SlabViews | null = null;
  #length = 0;
  #nowMs = 0;
  #at = -1;
  #stream: Stream<unknown> | null = null;
  #replacements: (number | Uint8Array)[] | undefined;

  constructor(
    private readonly packet: Packet,
    private readonly streams: Streams<unknown>,
    private readonly layout: SlabLayout,
    private readonly sync: StateSync<Stream<unknown>> | null,
    private readonly worked: Worked[],
  ) {}

  get length(): number {
    return this.#length;
  }

  get stream(): unknown {
    if (this.#stream === null) throw new RangeError('batch.stream: call at() first');
    return this.#stream.state;
  }

  at(i: number): Packet {
    const slab = this.#slab;
    if (slab === null || !(Number.isInteger(i) && i >= 0 && i < this.#length)) throw new RangeError(`batch.at(): expected a whole number from 0 to ${this.#length - 1}, found ${String(i)}`);
    this.#leave();
    place(this.packet, slab.rows, slab.bytes, i);
    this.#stream = this.streams.find(this.packet, this.#nowMs);
    this.#at = i;
    if (this.sync !== null) {
      this.worked[i] = this.sync.touch(this.#stream, this.packet.spi >>> 1) ? this.#stream : NOT_OURS;
    }
    return this.packet;
  }

  answer(verdict: Verdict): void {
    if (this.#slab === null || this.#at < 0) throw new RangeError('batch.answer(): call at() first');
    this.#replacements = write(this.#slab.bytes, this.layout.verdictsAt, this.#at, readVerdict(verdict), this.#replacements);
  }

  begin(slab: SlabViews, length: number, nowMs: number): void {
    this.#slab = slab;
    this.#length = length;
    this.#nowMs = nowMs;
    this.#replacements = undefined;
  }

  finish(): (number | Uint8Array)[] | undefined {
    this.#leave();
    this.#slab = null;
    this.#length = 0;
    return this.#replacements;
  }

  #leave(): void {
    if (this.#stream !== null && this.packet.ending) this.streams.end(this.#stream, 'ended');
    this.#stream = null;
    this.#at = -1;
  }
}
