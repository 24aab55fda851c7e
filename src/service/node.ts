/**
 * One service instance. Packets are received, turned round and sent in native code; `pass` needs nothing else. Any other function runs in a thread
 * of its own (function-thread.ts), so that whatever it does, this one goes on.
 */
import { native, type LiveStreams, type NativeGroup, type NativeNode, type NativeUnitMaps, type NodeCounters } from '../dataplane/native.js';
import { holdStampPorts } from '../dataplane/udp-sink.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { FunctionThread, type FunctionMesh, type FunctionState } from './function-thread.js';
import { PASS } from './functions/built-in.js';
import { MOST_STREAMS } from './handler.js';
import { DropLog } from './drop-log.js';
import { checkFunctionName } from './load-function.js';
import { NodeMesh, type MeshStatus } from './mesh.js';
import type { MetricValue } from './metrics.js';
import type { NodeIdentity } from './service-function.js';

export const DEFAULT_MEMORY_MB = 512;
export const DEFAULT_STALL_LIMIT_MS = 10_000;

export interface NodeOptions extends NodeIdentity {
  readonly interface: string;
  readonly address: string;
  /** `pass`, another built-in, or the path of a module. */
  readonly function: string;
  /** File of the function's settings. */
  readonly settings?: string | undefined;
  /** What happens to packets that the function can't take: it is behind, stuck, or being started. Default closed. */
  readonly fail?: 'open' | 'closed' | undefined;
  readonly maxStreams?: number | undefined;
  readonly maxMemoryMb?: number | undefined;
  readonly stallLimitMs?: number | undefined;
  /** weir's place on the underlay, and the key that its nodes are known by; default: no mesh. */
  readonly mesh?: { readonly controller: { readonly address: string; readonly port: number }; readonly key: Uint8Array } | undefined;
}

export interface NodeStatus extends NodeCounters {
  /** Null: it is in no mesh. */
  readonly mesh: MeshStatus | null;
  readonly running: {
    readonly function: string;
    /** `running` for `pass`. */
    readonly state: FunctionState;
    /** Why it is not running, or was last started anew. */
    readonly cause: string | null;
    readonly restarts: number;
    /** At most a second old. */
    readonly metrics: readonly MetricValue[];
  };
}

export class ServiceNode {
  #thread: FunctionThread | null = null;
  #mesh: NodeMesh | null = null;
  #drops: DropLog | null = null;
  #finished: Promise<void>;

  private constructor(
    private readonly options: NodeOptions,
    private readonly node: NativeNode,
    private readonly release: () => void,
  ) {
    this.#finished = node.finished;
  }

  static async start(options: NodeOptions, log: Logger): Promise<ServiceNode> {
    checkFunctionName(options.function);
    const release = holdStampPorts([options.address]);
    let running: ServiceNode;
    try {
      const mode = options.function === PASS ? 'pass' : (options.fail ?? 'closed');
      const node = new native.Node({ interface: options.interface, address: options.address, function: mode });
      running = new ServiceNode(options, node, release);
    } catch (error) {
      release();
      throw new Failure((error as Error).message);
    }
    try {
      await running.#startMesh(log);
      if (options.function === PASS) running.#mesh?.begin(NodeMesh.newSession(), 0);
      else await running.#startFunction(log);
    } catch (error) {
      await running.stop();
      throw error;
    }
    return running;
  }

  async #startMesh(log: Logger): Promise<void> {
    const { mesh, service, name, address, interface: underlay } = this.options;
    if (mesh === undefined) return;
    this.#mesh = await NodeMesh.start({ ...mesh, service, name, address, interface: underlay, sync: () => this.#thread?.sync ?? null }, this.node, (map, renewed) => this.#thread?.map(map, renewed), log);
    this.#drops = new DropLog(() => this.node.counters().dropped, log);
  }

  async #startFunction(log: Logger): Promise<void> {
    const { options, node } = this;
    const thread = await FunctionThread.start({
      handle: node.handle,
      function: options.function,
      settings: options.settings ?? null,
      identity: { service: options.service, name: options.name },
      maxStreams: options.maxStreams ?? MOST_STREAMS,
      maxMemoryMb: options.maxMemoryMb ?? DEFAULT_MEMORY_MB,
      stallLimitMs: options.stallLimitMs ?? DEFAULT_STALL_LIMIT_MS,
      mesh: this.#functionMesh(),
    }, log);
    this.#thread = thread;
    const map = this.#mesh?.map ?? null;
    if (map !== null) thread.map(map);
    this.#finished = Promise.race([node.finished, thread.failed]);
  }

  #functionMesh(): FunctionMesh | undefined {
    const mesh = this.#mesh;
    const { mesh: own, address } = this.options;
    if (mesh === null || own === undefined) return undefined;
    return { address, key: own.key, newSession: NodeMesh.newSession, begun: (session, port) => mesh.begin(session, port), ended: () => mesh.end(), map: () => mesh.map };
  }

  counters(): NodeCounters {
    return this.node.counters();
  }

  status(): NodeStatus {
    const thread = this.#thread;
    return {
      ...this.node.counters(),
      mesh: this.#mesh?.status ?? null,
      running: {
        function: this.options.function,
        state: thread?.state ?? 'running',
        cause: thread?.cause ?? null,
        restarts: thread?.restarts ?? 0,
        metrics: thread?.metrics ?? [],
      },
    };
  }

  /** In a group with a primary node: who there is. */
  joinGroup(group: NativeGroup): void {
    this.node.joinGroup(group);
  }

  /** As a unit of an appliance: whose streams others may be. */
  joinAppliance(maps: NativeUnitMaps | null): void {
    this.node.joinAppliance(maps);
  }

  liveStreams(): LiveStreams | null {
    return this.node.liveStreams();
  }

  /** Reads the function's settings again. */
  reload(): void {
    this.#thread?.reload();
  }

  /** Has the function write out what it has gathered. */
  flush(): void {
    this.#thread?.flush();
  }

  /** Fulfilled when the node has been stopped; rejects when it can't go on. */
  get finished(): Promise<void> {
    return this.#finished;
  }

  async stop(): Promise<void> {
    this.#mesh?.close();
    this.#drops?.close();
    await this.#thread?.stop();
    await this.node.stop().catch(() => undefined); // `finished` says why it could not go on
    this.release();
  }
}
