/** What carries a program out: native workers on their own threads, or the pcap port on this one. */
import { native, type FlowPage, type NativeCounters, type NativeDecision, type NativeProgram, type Tuple } from './native.js';

export interface Runner {
  install(program: NativeProgram): Promise<void>;
  flows(cursor: number, max: number): Promise<FlowPage>;
  describe(tuple: Tuple): Promise<NativeDecision>;
  counters(): NativeCounters;
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
}

export function startRing(options: RunnerOptions): Runner {
  return new native.Worker(options);
}
