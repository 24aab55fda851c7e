/** The pipeline on the caller's thread, on threads of its own, and over capture files; and what outlives the process of one. */
import type { NativeProgram } from './native-program.js';
import type { FlowPage, NativeCounters, NativeDecision, Tuple } from './native-seen.js';

export interface EmittedFrame {
  readonly port: number;
  readonly bytes: Uint8Array;
}

export interface EngineOptions {
  /** Streams the flow table holds, preallocated. */
  readonly flowsMax: number;
  /** Memory of the flow table that outlives the process, for as many streams; null or absent: memory of its own. */
  readonly flowFile?: NativeFlowFile | null;
  /** With a file: tenants of the captures whose streams may be adopted from it. */
  readonly tenants?: readonly number[];
}

export interface FlowFileOptions {
  /** Absolute, on a tmpfs. */
  readonly path: string;
  readonly flowsMax: number;
  /** 16 bytes: times in the file are those of this boot. */
  readonly bootId: Uint8Array;
  /** 8 bytes: what the ids in the file mean. */
  readonly identity: Uint8Array;
  /** 16 bytes. */
  readonly affinityKey: Uint8Array;
  /** Throws away what is there. */
  readonly fresh: boolean;
  /** The file as the process has it that hands over. Taken, also on failure. */
  readonly descriptor: number | null;
}

/** The flow table's file. Its constructor throws an Error, with the code `EBUSY` when another process uses the file. */
export interface NativeFlowFile {
  /** Why nothing can be adopted; empty where there is something, or was no file. */
  readonly note: string;
  /** On huge pages. */
  readonly huge: boolean;
  readonly descriptor: number;
  /** Puts it in the place of the one found there. Returns what is wrong, or an empty string. */
  publish(): string;
  /** Before the process ends by itself: gives back what `live` streams don't need. */
  rest(live: number): void;
}

/** What became of the entries that a flow table's file had. */
export interface Adoption {
  readonly kept: number;
  /** Of those kept: with an instance gone, which is chosen anew. */
  readonly repinned: number;
  readonly expired: number;
  readonly noPath: number;
  readonly noCapture: number;
  readonly damaged: number;
  readonly noRoom: number;
  readonly milliseconds: number;
}

/** A receive ring as another process can go on with it. */
export interface RingState {
  readonly descriptor: number;
  readonly slotBytes: number;
  readonly slots: number;
  /** The slot to be read next. */
  readonly head: number;
  readonly group: number;
}

/** An interface's rings, and what was found out about sending. */
export interface RingPortState {
  readonly rings: readonly RingState[];
  readonly bypass: boolean;
  readonly refused: number;
}

/** By worker and port: the slots to be read next. */
export type RingHeads = readonly (readonly (readonly number[] | null)[])[];

/** By worker and port; null where there is none. */
export type Rings = readonly (readonly (RingPortState | null)[])[];

export interface ChannelMessage {
  readonly text: string;
  /** Ours from now on. */
  readonly descriptors: readonly number[];
}

/** A connection between two processes of this host that carries open files (SCM_RIGHTS). */
export interface NativeChannel {
  /** On what listen() gave: the first that connects, or null. */
  accept(timeoutMs: number): Promise<NativeChannel | null>;
  /** At most 128 KiB and 200 descriptors. False when nobody will read it. */
  send(text: string, descriptors?: readonly number[]): boolean;
  /** The next message. Null when the other side is gone or the time is over: from then on the other side's send() fails. */
  receive(timeoutMs: number): Promise<ChannelMessage | null>;
  /** The process at the other end. */
  peer(): { readonly pid: number; readonly uid: number; readonly gid: number } | null;
  close(): void;
}

/** The pipeline on the caller's thread; for the `pcap` and `sim` ports. Errors (a bad program) are thrown as TypeError. */
export interface NativeEngine {
  install(program: NativeProgram): void;
  /** Takes over what the flow table's file holds; once a program is installed, before the first frame. Null without a file. */
  adopt(timeNs: bigint): Adoption | null;
  /**
   * Runs one Ethernet frame through. `offloadUnknown` (default false): the frame was captured without a virtio-net header, so its
   * checksums may be partial and it may be a super-frame. Returned bytes are copies.
   */
  process(timeNs: bigint, port: number, frame: Uint8Array, offloadUnknown?: boolean): EmittedFrame[];
  flows(cursor: number, max: number): FlowPage;
  describe(tuple: Tuple): NativeDecision;
  counters(): NativeCounters;
  signals(): Float64Array;
  /** Sends the probes that are due at `timeNs` and gives up those without an answer. */
  probe(timeNs: bigint): EmittedFrame[];
  /** When probe() has something to do next; null: never. Of the program that probe() saw last. */
  probeDue(): bigint | null;
  probes(): Float64Array;
  /** Whether an instance has reached its number of answers or losses in a row since the last call. */
  takeProbeNews(): boolean;
}

/** The `ring` ports and the pipeline on threads of their own. Every method returns at once; a worker serves it between batches. */
export interface NativeWorker {
  /**
   * Adopts what the flow table's file holds, and starts the threads. `heads`: where to go on in rings taken up. `commit` is called in between:
   * where it says no, an Error is thrown and nothing has begun. Returns null without a file.
   */
  begin(heads?: RingHeads, commit?: () => boolean): Adoption | null;
  /** What another process needs to go on with them; `head` is right after pause(). */
  rings(): Rings;
  /** Ends the threads and keeps the rest. Resolves when none has a packet in its hands. */
  pause(): Promise<void>;
  /** Goes on after pause(), with what the flow table holds now. */
  resume(): void;
  /** In force at once for what comes next; resolves when every worker has taken it up. */
  install(program: NativeProgram): Promise<void>;
  flows(cursor: number, max: number): Promise<FlowPage>;
  describe(tuple: Tuple): Promise<NativeDecision>;
  counters(): NativeCounters;
  signals(): Float64Array;
  probes(): Float64Array;
  /** Rounds of each thread's loop so far: what stands still for a second is stuck. */
  beats(): readonly number[];
  /** Whether other packet sockets of the host see what is sent at a port (it then passes the queueing discipline, which costs some speed). */
  show(port: number, on: boolean): void;
  /** Opens a port, anew where its interface was gone and is back, or closes it (an empty name); rejects with the reason. Traffic on the others goes on meanwhile. */
  open(port: number, name: string): Promise<void>;
  /** Resolves after stop(). */
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

export interface NativeWorkerOptions extends EngineOptions {
  /** Threads, 1 to 8. With more than one the kernel shares the streams out among them (PACKET_FANOUT_HASH). */
  readonly workers: number;
  /** Interface names by port number: underlay (null where no chain needs one), then in/out of each capture, then those of attached instances. */
  readonly interfaces: readonly (string | null)[];
  readonly program: NativeProgram;
  /** Rings of another process, in place of own ones. */
  readonly rings?: Rings | null;
  /** Called when an instance has reached its number of answers or losses in a row. Must not throw. */
  readonly onProbeNews?: () => void;
}

export interface ReplayOptions extends EngineOptions {
  readonly read: string;
  /** Path for the frames that go to instances, or null. */
  readonly write: string | null;
  /** Path for the frames that leave captures, or null. */
  readonly out: string | null;
  /** Prefixes of the workload side (`10.1.0.0/24`, `fd01::/64`). Empty: who opens a stream is the workload side. */
  readonly workload: readonly string[];
  readonly program: NativeProgram;
}

export interface ReplayProgress {
  readonly packets: number;
  /** Records that hold neither an Ethernet frame nor an IP packet. */
  readonly unusable: number;
  readonly bytesRead: number;
  readonly bytesTotal: number;
  readonly done: boolean;
  /** Set when the file ended in the middle of a record or is broken: what libpcap said. */
  readonly error: string | null;
}

export interface NativeReplay {
  /** Processes up to `maxPackets` more packets on the caller's thread. */
  step(maxPackets: number): ReplayProgress;
  flows(cursor: number, max: number): FlowPage;
  counters(): NativeCounters;
  /** Flushes and closes the written files; throws if they are not whole. */
  close(): void;
}
