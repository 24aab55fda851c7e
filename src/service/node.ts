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
import type { NodeIdentity, ServiceFunction, Verdict } from './service-function.js';

/** Streams whose state a node keeps; the least recently seen go first. */
const MOST_STREAMS = 100_000;

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

export class ServiceNode {
  readonly #streams = new LRUCache<string, { state: unknown }>({ max: MOST_STREAMS });
  readonly #native: NativeNode;
  #complained = false;

  private constructor(
    private readonly options: NodeOptions,
    private readonly log: Logger,
    private readonly release: () => void,
  ) {
    const service = options.function;
    this.#native = new native.Node({
      interface: options.interface,
      address: options.address,
      onBatch: service === null ? null : (packets) => packets.map((packet) => this.#verdict(service, packet)),
    });
  }

  static async start(options: NodeOptions, log: Logger): Promise<ServiceNode> {
    const release = await holdStampPorts([options.address]);
    try {
      return new ServiceNode(options, log, release);
    } catch (error) {
      release();
      throw new Failure((error as Error).message);
    }
  }

  #verdict(service: ServiceFunction, packet: NodePacket): boolean | Uint8Array {
    let verdict: Verdict;
    try {
      verdict = service.onPacket(packet, this.#stream(service, packet), this.options);
    } catch (error) {
      if (!this.#complained) this.log.error({ error: (error as Error).stack }, `function ${service.name} failed; its packet is dropped (said once)`);
      this.#complained = true;
      return false;
    }
    if (verdict === 'forward') return true;
    return verdict === 'drop' ? false : verdict.replace;
  }

  /** The code alone is a hash: streams that share one are told apart by their addresses and ports. */
  #stream(service: ServiceFunction, packet: NodePacket): unknown {
    const view = viewPacket(packet.bytes, packet.encapsulation === 'nsh');
    const ends = view === null ? [] : [`${view.source}:${view.sourcePort}`, `${view.destination}:${view.destinationPort}`].sort();
    const key = `${packet.code}/${view?.protocol ?? 0}/${ends.join('/')}`;
    let entry = this.#streams.get(key);
    if (entry === undefined) {
      entry = { state: service.newStream() };
      this.#streams.set(key, entry);
    }
    return entry.state;
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
