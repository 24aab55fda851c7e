/** The thread of a service function: takes slabs of packets from native code, has the function answer them, gives them back. */
import { PerformanceObserver, constants } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { native, type NativeFunctionLink } from '../dataplane/native.js';
import { Failure } from '../failure.js';
import { createLogger } from '../observe/log.js';
import { faultOf } from './faults.js';
import { BEAT, STEP, type FromFunction, type FunctionThreadData, type ToFunction } from './function-messages.js';
import { Handler, STEPS, nameOf, slabViews, type SlabViews } from './handler.js';
import { HeldSlabs } from './held-slabs.js';
import { loadFunction } from './load-function.js';
import { SettingsFile } from './settings.js';
import { SyncLink } from './sync-link.js';

const BEAT_EVERY_MS = 100;
const SWEEP_EVERY_MS = 1000;
const METRICS_EVERY_MS = 1000;
/** Between looks at timers and messages. */
const SLABS_A_TURN = 8;
/** Of the memory limit: what lives beyond this costs the least recently seen half of the streams their state. */
const WATERMARK = 0.75;
const MIB = 2 ** 20;

const data = workerData as FunctionThreadData;
const shared = new Int32Array(data.shared);
const log = createLogger().child({ instance: `${data.identity.service}/${data.identity.name}` });
const say = (message: FromFunction): void => parentPort?.postMessage(message);
const beat = (): void => void Atomics.add(shared, BEAT, 1);

try {
  await run();
} catch (error) {
  say({ type: 'refused', message: error instanceof Failure ? error.message : String((error as Error).stack ?? error), exitCode: error instanceof Failure ? error.exitCode : 1 });
}

async function run(): Promise<void> {
  const service = await loadFunction(data.function);
  const name = nameOf(service);
  const settings = new SettingsFile(data.settings, service.schema, name);
  const syncLink = data.sync === null ? null : await SyncLink.open(data.sync, log);
  if (data.sync !== null && service.state === undefined) log.info(`function ${name} declares no state: none is kept by another instance, whatever sync says`);
  const handler = new Handler(service, {
    identity: data.identity,
    log,
    layout: native.slabLayout,
    maxStreams: data.maxStreams,
    ...(syncLink === null ? {} : { sync: (store, save, codec) => syncLink.make(data.identity.service, { store, save, codec }) }),
    step: (step) => Atomics.store(shared, STEP, STEPS.indexOf(step)),
  });
  // What a function does outside of the calls it gets is its own fault, too.
  process.on('uncaughtException', (error) => handler.faults.add(faultOf('outside of any call it', error)));
  setInterval(beat, BEAT_EVERY_MS);

  const accept = (value: unknown): void => {
    try {
      handler.configure(value);
    } catch (error) {
      throw new Failure(`function ${name} refuses its settings: ${error instanceof Error ? error.message : String(error)}`, 2);
    }
  };
  let inForce: unknown;
  try {
    inForce = settings.read();
    accept(inForce);
  } catch (error) {
    if (data.lastSettings === undefined) throw error;
    log.error(`settings not taken, the ones before stay in force: ${(error as Error).message}`);
    inForce = data.lastSettings;
    accept(inForce);
  }
  const reload = (): void => {
    try {
      const value = settings.read();
      accept(value);
      say({ type: 'settings', settings: value });
      log.info({ settings: data.settings }, 'settings taken');
    } catch (error) {
      log.error(`settings not taken, the ones before stay in force: ${(error as Error).message}`);
    }
  };
  settings.watch(reload);
  handler.start();
  guardMemory(handler, name);

  const link = serve(handler, name, syncLink);
  setInterval(() => handler.sweep(), SWEEP_EVERY_MS);
  const measured = measure(handler, syncLink);
  setInterval(measured, METRICS_EVERY_MS);
  parentPort?.on('message', (message: ToFunction) => {
    if (message.type === 'reload') reload();
    else if (message.type === 'flush') void handler.flush();
    else if (message.type === 'map') syncLink?.install(message.map, message.renewed);
    else void stop(handler, link, measured);
  });
  say({ type: 'ready', settings: inForce, syncPort: handler.sync === null ? 0 : (syncLink?.port ?? 0) });
}

function fatal(message: string): void {
  say({ type: 'fatal', message });
}

/** Answers packets from now on. */
function serve(handler: Handler, name: string, syncLink: SyncLink | null): NativeFunctionLink {
  let slabs: SlabViews[] = [];
  const held = new HeldSlabs<ReturnType<Handler['seal']>['worked'][number]>(({ slab, worked, replacements }) => {
    handler.leave(slabs[slab] as SlabViews, worked);
    link.give(slab, replacements);
  });
  const drain = (): void => {
    try {
      for (let n = 0; n < SLABS_A_TURN; n++) {
        const taken = link.take();
        if (taken < 0) return;
        beat();
        const slab = slabs[taken >>> 16] as SlabViews;
        if (slab.bytes.length === 0) return fatal(`function ${name} has given the packets' memory away`);
        const replacements = handler.handle(slab, taken & 0xffff);
        if (handler.sync === null) {
          link.give(taken >>> 16, replacements);
          continue;
        }
        const { hold, worked } = handler.seal(() => held.drain());
        if (held.add({ slab: taken >>> 16, hold, worked, replacements })) link.hold();
        syncLink?.arm();
      }
      setImmediate(drain);
    } catch (error) {
      fatal(String((error as Error).stack ?? error));
    }
  };
  // Native code wakes this thread, but no sooner than it is back in its event loop.
  const link = new native.FunctionLink(data.handle, drain);
  slabs = link.slabs.map((slab) => slabViews(slab, native.slabLayout));
  return link;
}

/** The metrics of the node beside those of the function. */
function measure(handler: Handler, syncLink: SyncLink | null): () => void {
  const streams = handler.metrics.gauge('function_streams', 'Streams whose state is kept.');
  const evicted = handler.metrics.gauge('function_streams_evicted', 'Streams whose state went because others needed the room.');
  const faults = handler.metrics.gauge('function_faults', 'What the function did wrong: packets without a verdict, errors in timers.');
  const memory = handler.metrics.gauge('function_memory_bytes', 'Memory of the function: heap and buffers.');
  const synced = handler.sync === null ? null : syncLink?.measure(handler.metrics);
  const copies = handler.sync === null ? null : handler.metrics.gauge('function_copies', 'Streams of other instances whose state is kept here, too.');
  return () => {
    synced?.();
    copies?.set(handler.streams.copies);
    streams.set(handler.streams.size);
    evicted.set(handler.streams.evicted);
    faults.set(handler.faults.total);
    memory.set(memoryInUse());
    say({ type: 'metrics', values: handler.metrics.read(), sync: syncLink?.report ?? null });
  };
}

async function stop(handler: Handler, link: NativeFunctionLink, measured: () => void): Promise<void> {
  link.close();
  await handler.stop();
  measured();
  say({ type: 'stopped' });
}

function memoryInUse(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

/**
 * A function that leaks loses streams first. What lives is known right after a full collection; memory outside of the heap has no such
 * moment and no limit of V8's, so it is looked at once a second. The heap's own limit ends the thread, and the node starts another.
 */
function guardMemory(handler: Handler, name: string): void {
  const limit = data.maxMemoryMb * MIB;
  const own = memoryInUse();
  const shed = (): void => {
    const used = memoryInUse() - own;
    if (used < limit * WATERMARK) return;
    const before = handler.streams.size;
    handler.streams.shed(0.5);
    const gone = before - handler.streams.size;
    handler.faults.add({ kind: 'memory', message: `uses ${Math.round(used / MIB)} of ${data.maxMemoryMb} MiB (--max-memory): ${gone} of ${before} streams lost their state` });
  };
  new PerformanceObserver((list) => {
    if (list.getEntries().some((entry) => (entry as unknown as { detail?: { kind?: number } }).detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR)) shed();
  }).observe({ entryTypes: ['gc'] });
  setInterval(() => {
    const external = getHeapStatistics().external_memory;
    if (external > limit) fatal(`function ${name} holds ${Math.round(external / MIB)} MiB in buffers, more than --max-memory ${data.maxMemoryMb} allows`);
    else if (external > limit * WATERMARK) shed();
  }, SWEEP_EVERY_MS).unref();
}
