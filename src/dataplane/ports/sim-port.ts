/**
 * The `sim` port: the real pipeline in an in-memory network under a virtual clock. Frames are injected at times of one's own
 * choosing, instances are functions, and everything that happens is in a log.
 */
import { native, type EmittedFrame, type FlowPage, type NativeCounters, type NativeDecision, type NativeEngine, type NativeProgram, type Tuple } from '../native.js';
import { isUnderlayPort, type Numbered } from '../../program/port-numbers.js';
import type { Runner } from '../runner.js';

/** Gets a stamped frame, returns the frames it sends back. */
export type SimInstance = (frame: Buffer) => readonly Buffer[];

/** What is attached to a port: gets a plain frame, returns what it sends, and to which port. */
export type SimAttached = (frame: Buffer) => readonly { readonly port: number; readonly bytes: Buffer }[];

export interface SimEvent {
  readonly timeNs: bigint;
  readonly port: number;
  readonly bytes: Buffer;
}

interface Scheduled extends SimEvent {
  readonly order: number;
}

const NSH_PORT = 4790;
const UNDERLAY = 0;

const UDP_CHECKSUM = 40;
const SERVICE_INDEX = 57;

/**
 * What `weir node --function pass` does to an IPv4 frame: swaps the outer addresses and, behind NSH, counts the index down. A fragment is
 * turned round by itself: only the first one has a stamp, and all of them the UDP checksum in it, which follows (RFC 1624).
 */
export function turnRound(frame: Buffer): Buffer {
  const back = Buffer.from(frame);
  frame.copy(back, 0, 6, 12);
  frame.copy(back, 6, 0, 6);
  frame.copy(back, 26, 30, 34);
  frame.copy(back, 30, 26, 30);
  const offset = frame.readUInt16BE(20) & 0x1fff;
  if (offset > 0 || back.readUInt16BE(36) !== NSH_PORT) return back;
  back.writeUInt8(back.readUInt8(SERVICE_INDEX) - 1, SERVICE_INDEX);
  const checksum = back.readUInt16BE(UDP_CHECKSUM);
  // The index is the low byte of its word, and a word that is one less makes the complement of the sum one more.
  if (checksum !== 0) back.writeUInt16BE(checksum === 0xffff ? 1 : checksum + 1, UDP_CHECKSUM);
  return back;
}

export class SimNetwork implements Runner {
  readonly finished: Promise<void>;
  /** Frames that left a port, in order. */
  readonly log: SimEvent[] = [];
  readonly #engine: NativeEngine;
  readonly #instances = new Map<string, SimInstance>();
  readonly #attached = new Map<number, SimAttached>();
  readonly #queue: Scheduled[] = [];
  /** Captures and underlays stay what they are. */
  readonly #numbered: Numbered;
  #finish: () => void = () => undefined;
  #order = 0;
  nowNs = 0n;

  constructor(
    program: NativeProgram,
    flowsMax = 1000,
    /** One way, between weir and an instance. */
    readonly latencyNs = 1000n,
    readonly onProbeNews: () => void = () => undefined,
  ) {
    this.finished = new Promise((resolve) => (this.#finish = resolve));
    this.#engine = new native.Engine({ flowsMax });
    this.#engine.install(program);
    this.#numbered = program;
  }

  /** Puts an instance at an IPv4 address; by default one that passes everything. */
  instance(address: string, behaviour: SimInstance = (frame) => [turnRound(frame)]): void {
    this.#instances.set(address, behaviour);
  }

  /** Puts something at a port that instances are attached to. */
  attach(port: number, behaviour: SimAttached): void {
    this.#attached.set(port, behaviour);
  }

  /** Has a frame arrive at a port, `afterNs` from now. */
  inject(port: number, bytes: Buffer, afterNs = 0n): void {
    this.#queue.push({ timeNs: this.nowNs + afterNs, port, bytes, order: this.#order++ });
  }

  /** Runs everything that happens in the next `ns`, then the clock stands there. */
  advance(ns: bigint): void {
    const end = this.nowNs + ns;
    this.#sent(this.#engine.probe(this.nowNs));
    for (;;) {
      const due = this.#engine.probeDue();
      const next = this.#take(due !== null && due < end ? due : end);
      if (next !== undefined) {
        this.nowNs = next.timeNs;
        this.#sent(this.#engine.process(next.timeNs, next.port, next.bytes));
      } else if (due !== null && due <= end) {
        this.nowNs = due;
        this.#sent(this.#engine.probe(due));
      } else break;
    }
    this.nowNs = end;
    // An empty frame from nowhere moves the pipeline's clock, so that idle streams expire.
    this.#engine.process(this.nowNs, UNDERLAY, Buffer.alloc(0));
  }

  #sent(frames: readonly EmittedFrame[]): void {
    for (const out of frames) {
      const bytes = Buffer.from(out.bytes);
      this.log.push({ timeNs: this.nowNs, port: out.port, bytes });
      for (const back of this.#attached.get(out.port)?.(bytes) ?? []) this.inject(back.port, back.bytes, 2n * this.latencyNs);
      if (!isUnderlayPort(out.port, this.#numbered)) continue;
      const answer = this.#instances.get(bytes.subarray(30, 34).join('.'))?.(bytes) ?? [];
      for (const frame of answer) this.inject(out.port, frame, 2n * this.latencyNs);
    }
    if (this.#engine.takeProbeNews()) this.onProbeNews();
  }

  #take(end: bigint): Scheduled | undefined {
    this.#queue.sort((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : a.order - b.order));
    return this.#queue[0] !== undefined && this.#queue[0].timeNs <= end ? this.#queue.shift() : undefined;
  }

  /** Frames that left a port since the last call of clear(). */
  sent(port: number): Buffer[] {
    return this.log.filter((event) => event.port === port).map((event) => event.bytes);
  }

  clear(): void {
    this.log.length = 0;
  }

  install(program: NativeProgram): Promise<void> {
    this.#engine.install(program);
    return Promise.resolve();
  }
  open(): Promise<void> {
    return Promise.resolve();
  }
  flows(cursor: number, max: number): Promise<FlowPage> {
    return Promise.resolve(this.#engine.flows(cursor, max));
  }
  describe(tuple: Tuple): Promise<NativeDecision> {
    return Promise.resolve(this.#engine.describe(tuple));
  }
  counters(): NativeCounters {
    return this.#engine.counters();
  }
  signals(): Float64Array {
    return this.#engine.signals();
  }
  probes(): Float64Array {
    return this.#engine.probes();
  }
  stop(): Promise<void> {
    this.#finish();
    return this.finished;
  }
}
