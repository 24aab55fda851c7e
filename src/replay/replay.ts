/** Replays a capture through the pipeline with emulated instances, a slice at a time so that the process stays awake. */
import type { Configuration } from '../config/configuration.js';
import { native, type NativeCounters, type ReplayProgress } from '../dataplane/native.js';
import { compile, replayFacts } from '../program/compile.js';
import { newIds, type Ids } from '../program/ids.js';

const SLICE_PACKETS = 20_000;

export interface ReplayRequest {
  readonly configuration: Configuration;
  readonly read: string;
  readonly write: string | null;
  readonly out: string | null;
  readonly workload: readonly string[];
}

export interface ReplayResult {
  readonly progress: ReplayProgress;
  readonly counters: NativeCounters;
  readonly ids: Ids;
}

/** Throws an Error when a file can't be read or written. */
export async function replay(request: ReplayRequest, onProgress: (progress: ReplayProgress) => void = () => undefined): Promise<ReplayResult> {
  const { configuration, read, write, out, workload } = request;
  const ids = newIds();
  const program = compile(configuration, ids, replayFacts(configuration));
  const run = new native.Replay({ flowsMax: configuration.flows.max, read, write, out, workload, program });
  let progress: ReplayProgress;
  do {
    progress = run.step(SLICE_PACKETS);
    onProgress(progress);
    await new Promise((resolve) => setImmediate(resolve));
  } while (!progress.done);
  const counters = run.counters();
  run.close();
  return { progress, counters, ids };
}
