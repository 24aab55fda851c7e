/** What carries a program out: native workers on their own threads, or the pcap port on this one. */
import { native, type Adoption, type FlowPage, type NativeFlowFile, type NativeCounters, type NativeDecision, type NativeProgram, type NativeWorker, type Tuple } from './native.js';

export interface Runner {
  install(program: NativeProgram): Promise<void>;
  flows(cursor: number, max: number): Promise<FlowPage>;
  describe(tuple: Tuple): Promise<NativeDecision>;
  counters(): NativeCounters;
  /** Opens a port anew, or one more; with an empty name closes it. Rejects where that can't be. */
  open(port: number, name: string): Promise<void>;
  /** Streams of another process that it went on with; null where it could have none. */
  readonly adopted?: Adoption | null;
  /** Stops handling packets, for another process or until resume(). */
  pause?(): Promise<void>;
  resume?(): void;
  /** What health and load are judged by: native.ts has the columns. */
  signals(): Float64Array;
  probes(): Float64Array;
  /** Rounds of each thread's loop so far; what has no threads of its own has none to tell of. */
  beats?(): readonly number[];
  /** Whether other packet sockets of the host see what is sent at a port. */
  show?(port: number, on: boolean): void;
  /** Rejects with the reason when it can't go on; resolves after stop(). */
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

export interface RunnerOptions {
  readonly flowsMax: number;
  /** Threads of the ring port; the others have one. */
  readonly workers: number;
  /** By port number: underlay or null, then `in` and `out` of each capture. */
  readonly interfaces: readonly (string | null)[];
  readonly program: NativeProgram;
  readonly flowFile: NativeFlowFile | null;
  readonly tenants: readonly number[];
  /** An instance has reached its number of answered or lost probes in a row. */
  readonly onProbeNews?: () => void;
}

/** What other processes may have of the ring port. */
export interface RingRunner extends Runner {
  readonly rings: NativeWorker['rings'];
  pause(): Promise<void>;
  resume(): void;
}

export function startRing(options: RunnerOptions): RingRunner {
  return begun(new native.Worker(options));
}

/** Sets a worker going; the arguments are those of its begin(). */
export function begun(worker: NativeWorker, ...how: Parameters<NativeWorker['begin']>): RingRunner {
  const adopted = worker.begin(...how);
  return Object.assign(worker, { adopted });
}

export const hasRings = (runner: Runner): runner is RingRunner => 'rings' in runner;
