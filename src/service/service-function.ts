/**
 * What a service function is: a module whose default export is a ServiceFunction. Only `name` and one of `onPacket` and `onBatch` are needed.
 * It runs in a thread of its own; whatever it does wrong costs packets, never the node.
 */
import type { Logger } from '../observe/log.js';
import type { FieldValue, StateShape } from '../mesh/sync/state-codec.js';
import type { Counter, Gauge } from './metrics.js';
import type { Packet } from './packet.js';

export type { Packet } from './packet.js';
export type Verdict = 'forward' | 'drop' | { readonly replace: Uint8Array };

/** Why a stream's state goes: nothing came for its idle time; both ends closed it or one reset it; the function said so; others needed the room; the node stops; another instance serves it. */
export type StreamEnd = 'idle' | 'closed' | 'ended' | 'evicted' | 'stopped' | 'moved';

export interface NodeIdentity {
  readonly service: string;
  readonly name: string;
}

/** What a function has of the node that runs it. */
export interface FunctionNode extends NodeIdentity {
  readonly log: Logger;
  /** Of the packets under way, in milliseconds since 1970. Read once a batch. */
  readonly nowMs: number;
  /** Streams whose state is kept. */
  readonly streams: number;
  /** Calls `work` every so often, or once. At most 100 of them at a time. What they throw is logged, as of packets. Gives what ends it. */
  every(milliseconds: number, work: () => void): () => void;
  after(milliseconds: number, work: () => void): () => void;
  /** The same name gives the same one. At most 200 of them. */
  counter(name: string, help: string): Counter;
  gauge(name: string, help: string): Gauge;
}

/** Many packets at a time. */
export interface Batch<State> {
  readonly length: number;
  /** Moves to packet `i`: the same object each time, valid until the next call. */
  at(i: number): Packet;
  /** State of the stream of the packet moved to. */
  readonly stream: State;
  /** What becomes of that packet. One without an answer counts as failed. */
  answer(verdict: Verdict): void;
}

/** What of a stream's state another instance needs to go on with it: with `sync` of the service it always has a copy. */
export interface StateDeclaration<State> extends StateShape {
  /** The fields as they are now. */
  save(stream: State, node: FunctionNode): Readonly<Record<string, FieldValue>>;
  /** A state with these fields: of a stream that another instance has served until now. */
  load(fields: Readonly<Record<string, FieldValue>>, stream: RestoredStream, node: FunctionNode): State;
}

/** Where a stream comes from and goes to, as its first packet travelled. */
export interface RestoredStream {
  readonly code: number;
  readonly protocol: number;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

export interface ServiceFunction<State = unknown, Settings = unknown> {
  readonly name: string;
  /** JSON Schema (2020-12) of `--settings`. Without one the function takes no settings. */
  readonly schema?: object;
  /**
   * Called before the first packet, and whenever the settings have changed: with what the schema admits, `{}` where there is no file. What it
   * throws is why they are refused; the old ones must then still be in force.
   */
  configure?(settings: Settings, node: FunctionNode): void;
  /** Called once, after the first configure(): timers, metrics. */
  start?(node: FunctionNode): void;
  /** State of a stream whose first packet this is. Default: null. */
  newStream?(packet: Packet, node: FunctionNode): State;
  /** Without one, the state of its streams ends with the instance. */
  readonly state?: StateDeclaration<State>;
  onPacket?(packet: Packet, stream: State, node: FunctionNode): Verdict;
  /** In the place of onPacket. */
  onBatch?(batch: Batch<State>, node: FunctionNode): void;
  /** A stream's state goes. */
  onStreamEnd?(stream: State, why: StreamEnd, node: FunctionNode): void;
  /** After how many milliseconds without a packet a stream ends. Default: TCP 350 s, closed TCP 5 s, others 120 s. */
  idleMs?(stream: State): number;
  /** Writes out what it has gathered: on SIGUSR2, and before the node stops (within 5 s). */
  flush?(node: FunctionNode): void | Promise<void>;
}

/** In bytes: with its stamp and the outer headers it still is one datagram. */
export const LONGEST_REPLACEMENT = 64_500;
