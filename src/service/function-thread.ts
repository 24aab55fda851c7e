/**
 * Runs a service function in a thread of its own and watches over it. A thread that is stuck for too long, or that has run out of memory, is ended
 * and another one started; meanwhile native code goes on without it, by the node's `fail`.
 */
import { Worker } from 'node:worker_threads';
import { Failure } from '../failure.js';
import type { SyncReport } from '../mesh/hello.js';
import type { ServiceMap } from '../mesh/service-map.js';
import type { Logger } from '../observe/log.js';
import { FaultLog } from './faults.js';
import { BEAT, SHARED_BYTES, STEP, type FromFunction, type FunctionThreadData, type ToFunction } from './function-messages.js';
import { STEPS } from './handler.js';
import type { MetricValue } from './metrics.js';
import type { NodeIdentity } from './service-function.js';

const LOOK_EVERY_MS = 100;
/** Without a sign of life for this long it counts as stalled. */
const STALLED_MS = 500;
const STOP_WITHIN_MS = 5000;
/** Restarts within a minute; one more ends the node. */
const MOST_RESTARTS = 5;
const MINUTE = 60_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

export type FunctionState = 'starting' | 'running' | 'stalled' | 'failed' | 'stopped';

export interface FunctionThreadOptions {
  readonly handle: number;
  readonly function: string;
  readonly settings: string | null;
  readonly identity: NodeIdentity;
  readonly maxStreams: number;
  readonly maxMemoryMb: number;
  /** A stall that lasts longer ends the thread. */
  readonly stallLimitMs: number;
  /** Where it is in a mesh: each thread is a run of its own, which begins with no state. */
  readonly mesh?: FunctionMesh | undefined;
}

export interface FunctionMesh {
  /** Of the node. */
  readonly address: string;
  readonly key: Uint8Array;
  readonly newSession: () => string;
  /** A run answers packets, and takes state on this port. */
  readonly begun: (session: string, syncPort: number) => void;
  readonly ended: () => void;
  /** The latest map; null: there is none yet. */
  readonly map: () => ServiceMap | null;
}

export class FunctionThread {
  /** Rejects when the function can't be kept running. */
  readonly failed: Promise<never>;
  #fail: (why: Failure) => void = () => undefined;
  readonly #faults: FaultLog;
  #worker: Worker | null = null;
  #state: FunctionState = 'starting';
  #cause: string | null = null;
  #restarts: number[] = [];
  #restarted = 0;
  #metrics: readonly MetricValue[] = [];
  #sync: SyncReport | null = null;
  #lastSettings: unknown;
  #shared = new Int32Array(new SharedArrayBuffer(SHARED_BYTES));
  #beat = 0;
  #aliveMs = 0;
  #told = false;
  #watch: NodeJS.Timeout | null = null;
  #again: NodeJS.Timeout | null = null;
  #stopped: (() => void) | null = null;

  private constructor(
    private readonly options: FunctionThreadOptions,
    private readonly log: Logger,
  ) {
    this.#faults = new FaultLog(log, options.function);
    this.failed = new Promise((_, reject) => (this.#fail = reject));
    this.failed.catch(() => undefined); // also when nobody listens
  }

  /** Throws a Failure when the function can't be loaded or does not take its settings. */
  static async start(options: FunctionThreadOptions, log: Logger): Promise<FunctionThread> {
    const thread = new FunctionThread(options, log);
    await thread.#launch();
    thread.#watch = setInterval(() => thread.#look(), LOOK_EVERY_MS);
    return thread;
  }

  get state(): FunctionState {
    return this.#state;
  }

  /** Why it is not running, or why it was last started anew. */
  get cause(): string | null {
    return this.#cause;
  }

  get restarts(): number {
    return this.#restarted;
  }

  get metrics(): readonly MetricValue[] {
    return this.#metrics;
  }

  /** At most a second old. A thread that is stuck says nothing, and what it said last would look like all is well. */
  get sync(): SyncReport | null {
    return this.#state === 'running' ? this.#sync : null;
  }

  reload(): void {
    this.#say({ type: 'reload' });
  }

  /** Of whom its streams would go to. */
  /** `renewed`: the session of a run that begins with this map, in the same thread. */
  map(map: ServiceMap, renewed: string | null = null): void {
    this.#say({ type: 'map', map, renewed });
  }

  flush(): void {
    this.#say({ type: 'flush' });
  }

  /** Lets the function write out what it has, for a while. */
  async stop(): Promise<void> {
    const wasRunning = this.#state === 'running';
    this.#state = 'stopped';
    if (this.#watch !== null) clearInterval(this.#watch);
    if (this.#again !== null) clearTimeout(this.#again);
    const worker = this.#worker;
    if (worker === null) return;
    if (wasRunning) {
      let late: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#stopped = resolve;
        late = setTimeout(() => {
          this.log.warn(`function ${this.options.function} did not finish within ${STOP_WITHIN_MS} ms`);
          resolve();
        }, STOP_WITHIN_MS);
        this.#say({ type: 'stop' });
      });
      clearTimeout(late);
    }
    this.#worker = null;
    await worker.terminate();
  }

  #say(message: ToFunction): void {
    this.#worker?.postMessage(message);
  }

  /** Starts a thread; fulfilled when it answers packets. */
  #launch(): Promise<void> {
    const { stallLimitMs: _, mesh, ...own } = this.options;
    const session = mesh?.newSession() ?? '';
    this.#shared = new Int32Array(new SharedArrayBuffer(SHARED_BYTES));
    const data: FunctionThreadData = { ...own, sync: mesh === undefined ? null : { address: mesh.address, key: mesh.key, session }, shared: this.#shared.buffer as SharedArrayBuffer, ...(this.#lastSettings === undefined ? {} : { lastSettings: this.#lastSettings }) };
    const worker = new Worker(new URL('./function-worker.js', import.meta.url), { workerData: data, resourceLimits: { maxOldGenerationSizeMb: this.options.maxMemoryMb } });
    this.#worker = worker;
    this.#aliveMs = performance.now();
    return new Promise((resolve, reject) => {
      let started = false;
      let cause: string | null = null;
      worker.on('message', (message: FromFunction) => {
        if (message.type === 'ready') {
          started = true;
          this.#lastSettings = message.settings;
          this.#aliveMs = performance.now();
          this.#state = 'running';
          const map = mesh?.map() ?? null;
          if (map !== null) this.map(map);
          mesh?.begun(session, message.syncPort);
          resolve();
        } else if (message.type === 'refused') {
          cause = message.message;
          reject(new Failure(message.message, message.exitCode));
          void worker.terminate();
        } else if (message.type === 'settings') this.#lastSettings = message.settings;
        else if (message.type === 'metrics') {
          this.#metrics = message.values;
          this.#sync = message.sync;
        }
        else if (message.type === 'stopped') this.#stopped?.();
        else {
          cause = message.message;
          void worker.terminate();
        }
      });
      worker.on('error', (error: Error & { code?: string }) => {
        cause ??= error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? `it ran out of memory (--max-memory ${this.options.maxMemoryMb} MiB)` : `its thread failed: ${String(error.stack ?? error).slice(0, 1000)}`;
      });
      worker.on('exit', () => {
        if (this.#worker !== worker) return;
        this.#worker = null;
        this.#sync = null;
        mesh?.ended();
        this.#stopped?.();
        const why = cause ?? this.#cause ?? 'it ended its thread';
        if (!started) reject(new Failure(why));
        else if (this.#state !== 'stopped') this.#restart(why);
      });
    });
  }

  #restart(why: string): void {
    const now = performance.now();
    this.#cause = why;
    this.#restarts = [...this.#restarts.filter((at) => now - at < MINUTE), now];
    const { function: name } = this.options;
    if (this.#restarts.length > MOST_RESTARTS) {
      this.#state = 'failed';
      this.#fail(new Failure(`function ${name} ended ${this.#restarts.length} times within a minute, at last because ${why}. Mend it, or give it more room, and start the node again.`));
      return;
    }
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#restarts.length - 1));
    this.#state = 'starting';
    this.#restarted++;
    this.log.error(`function ${name}: ${why}; the state of its streams is lost, it is started anew in ${pause} ms`);
    this.#again = setTimeout(() => {
      this.#launch().then(
        () => this.log.info(`function ${name} runs again`),
        (error: Error) => this.#state !== 'stopped' && this.#restart(error.message),
      );
    }, pause);
  }

  #look(): void {
    const worker = this.#worker;
    if (worker === null || this.#state === 'starting') return;
    const now = performance.now();
    const beat = Atomics.load(this.#shared, BEAT);
    const silent = Math.round(now - this.#aliveMs);
    const { function: name, stallLimitMs } = this.options;
    if (beat !== this.#beat) {
      this.#beat = beat;
      this.#aliveMs = now;
      if (this.#state !== 'stalled') return;
      this.#state = 'running';
      if (this.#told) this.log.info(`function ${name} works again, after ${silent} ms`);
    } else if (this.#state === 'running' && silent >= STALLED_MS) {
      this.#state = 'stalled';
      const step = STEPS[Atomics.load(this.#shared, STEP)] ?? STEPS[0];
      this.#cause = `it has been stuck in ${step === 'nothing' ? 'its own code' : step} for ${silent} ms`;
      this.#told = this.#faults.add({ kind: 'stalled', message: `${this.#cause}: what its queue can't hold goes by --fail` });
    } else if (this.#state === 'stalled' && silent >= stallLimitMs) {
      this.#cause = `it was stuck for ${silent} ms, longer than --stall-limit allows`;
      this.#state = 'starting';
      void worker.terminate();
    }
  }
}
