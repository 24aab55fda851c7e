/**
 * One service instance. `pass` runs wholly in native code; any other function gets its packets here in batches, each with
 * the state object of its stream.
 */
import { pathToFileURL } from 'node:url';
import { resolve } from 'node:path';
import { LRUCache } from 'lru-cache';
import { native, type NativeNode, type NodePacket } from '../dataplane/native.js';
import { holdStampPorts } from '../dataplane/udp-sink.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { mark } from './functions/mark.js';
import { viewPacket } from './packet-view.js';
import { NoVerdict, readVerdict, type NodeIdentity, type ServiceFunction } from './service-function.js';

/** Streams whose state a node keeps; the least recently seen go first. */
const MOST_STREAMS = 100_000;
/** Kinds of faults told apart: their names come from the function. */
const MOST_KINDS = 16;
const MINUTE = 60_000;

const BUILT_IN: Readonly<Record<string, ServiceFunction | null>> = { pass: null, mark: mark as ServiceFunction };

/** A built-in by name, or the default export of a module file. Null: `pass`, which needs no JavaScript. */
export async function loadFunction(name: string): Promise<ServiceFunction | null> {
  const builtIn = BUILT_IN[name];
  if (builtIn !== undefined) return builtIn;
  if (!/[./]/.test(name)) throw new Failure(`there is no function "${name}"; built in: ${Object.keys(BUILT_IN).join(', ')}; or give the path of a module.`, 2);
  let module: { default?: ServiceFunction };
  try {
    module = (await import(pathToFileURL(resolve(name)).href)) as typeof module;
  } catch (error) {
    throw new Failure(`can't load the function ${name}: ${(error as Error).message}`, 2);
  }
  const loaded = module.default;
  if (typeof loaded?.onPacket !== 'function' || typeof loaded.newStream !== 'function') {
    throw new Failure(`${name}: expected a default export with newStream() and onPacket(packet, stream, node).`, 2);
  }
  return loaded;
}

export interface NodeOptions extends NodeIdentity {
  readonly interface: string;
  readonly address: string;
  readonly function: ServiceFunction | null;
}

/** No bytes: native code counts the packet as `function_error`. */
const ERROR = new Uint8Array(0);

type After = (work: () => void, milliseconds: number) => void;
const later: After = (work, milliseconds) => void setTimeout(work, milliseconds).unref();

/** What the function makes of each batch. Whatever goes wrong with a packet costs that packet and no other. */
export function packetHandler(service: ServiceFunction, identity: NodeIdentity, log: Logger, after = later): (packets: readonly NodePacket[]) => (boolean | Uint8Array)[] {
  const streams = new LRUCache<string, { state: unknown }>({ max: MOST_STREAMS });
  const faults = new FaultLog(log, nameOf(service), after);
  const handle = (packet: NodePacket): boolean | Uint8Array => {
    let step = 'newStream()';
    try {
      const key = streamKey(packet);
      let stream = streams.get(key);
      if (stream === undefined) {
        stream = { state: service.newStream() };
        streams.set(key, stream);
      }
      step = 'onPacket()';
      const answer: unknown = service.onPacket(packet, stream.state, identity);
      step = 'its answer';
      return readVerdict(answer);
    } catch (error) {
      faults.add(faultOf(step, error));
      return ERROR;
    }
  };
  return (packets) => packets.map(handle);
}

/** The code alone is a hash: streams that share one are told apart by their addresses and ports. */
function streamKey(packet: NodePacket): string {
  const view = viewPacket(packet.bytes, packet.encapsulation === 'nsh');
  const ends = view === null ? [] : [`${view.source}:${view.sourcePort}`, `${view.destination}:${view.destinationPort}`].sort();
  return `${packet.code}/${view?.protocol ?? 0}/${ends.join('/')}`;
}

function nameOf(service: ServiceFunction): string {
  try {
    if (typeof service.name === 'string') return service.name;
  } catch {
    // as good as none
  }
  return 'without a name';
}

interface Fault {
  readonly kind: string;
  readonly message: string;
  readonly stack?: string | undefined;
}

/** What was thrown may be anything, also what throws when it is looked at. */
function faultOf(step: string, error: unknown): Fault {
  try {
    if (error instanceof NoVerdict) return { kind: `onPacket() ${error.kind}`, message: `onPacket() ${error.message}` };
    const message = `${step} threw ${String(error).slice(0, 300)}`;
    if (!(error instanceof Error)) return { kind: `${step} threw`, message };
    return { kind: `${step} threw ${String(error.name).slice(0, 50)}`, message, stack: String(error.stack).slice(0, 3000) };
  } catch {
    return { kind: `${step} threw`, message: `${step} threw something that can't be shown` };
  }
}

/** Logs the first fault of each kind at once; of all others together one line a minute. */
class FaultLog {
  readonly #known = new Set<string>();
  #more = new Map<string, number>();
  #last = '';

  constructor(
    private readonly log: Logger,
    private readonly name: string,
    private readonly after: After,
  ) {}

  add({ kind, message, stack }: Fault): void {
    if (!this.#known.has(kind) && this.#known.size < MOST_KINDS) {
      this.#known.add(kind);
      this.log.error({ stack }, `function ${this.name}: ${message}`);
      return;
    }
    if (this.#more.size === 0) this.after(() => this.#tell(), MINUTE);
    const counted = this.#known.has(kind) ? kind : 'others';
    this.#more.set(counted, (this.#more.get(counted) ?? 0) + 1);
    this.#last = message;
  }

  #tell(): void {
    const kinds = Object.fromEntries(this.#more);
    const packets = [...this.#more.values()].reduce((sum, n) => sum + n, 0);
    this.#more = new Map();
    this.log.error({ kinds }, `function ${this.name}: ${packets} more packet${packets === 1 ? '' : 's'} failed, the last one: ${this.#last}`);
  }
}

export class ServiceNode {
  readonly #native: NativeNode;

  private constructor(
    options: NodeOptions,
    log: Logger,
    private readonly release: () => void,
  ) {
    const service = options.function;
    this.#native = new native.Node({
      interface: options.interface,
      address: options.address,
      onBatch: service === null ? null : packetHandler(service, options, log),
    });
  }

  static async start(options: NodeOptions, log: Logger): Promise<ServiceNode> {
    const release = holdStampPorts([options.address]);
    try {
      return new ServiceNode(options, log, release);
    } catch (error) {
      release();
      throw new Failure((error as Error).message);
    }
  }

  counters(): ReturnType<NativeNode['counters']> {
    return this.#native.counters();
  }

  get finished(): Promise<void> {
    return this.#native.finished;
  }

  async stop(): Promise<void> {
    await this.#native.stop();
    this.release();
  }
}
