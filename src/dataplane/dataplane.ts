/**
 * The running dataplane: desired state on one side, native code on the other. Changes are serialised; each compiles a whole
 * program and swaps it, or changes nothing.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { ChainConfig, Configuration } from '../config/configuration.js';
import { MAX_HOPS } from '../config/limits.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { compile, instanceKey, loadAffinityKey, type Facts } from '../program/compile.js';
import { newIds, type Ids } from '../program/ids.js';
import { inspectHost, type Host } from './host.js';
import type { InstanceState, NativeProgram } from './native.js';
import { Neighbours } from './neighbours.js';
import { Paths } from './paths.js';
import { startRing, type Runner } from './runner.js';
import { holdStampPorts } from './udp-sink.js';

const MAX_WORKERS = 8;
const RESOLVE_TIMEOUT_MS = 2000;
const UPKEEP_MS = 1000;

/** Refused by the state in force: `path` is where in the request. */
export class ChangeRefused extends Error {
  constructor(
    message: string,
    readonly path: string,
  ) {
    super(message);
  }
}

export interface ChangeAnswer {
  readonly generation: number;
  readonly changed: string;
}

interface Draining {
  readonly deadlineMs: number | null;
}

/** Where a dataplane's program runs and what its host is: the real ones, or a simulation's. */
export interface Surroundings {
  readonly host: Host;
  readonly neighbours: Pick<Neighbours, 'macOf' | 'refresh'>;
  readonly startRunner: (program: NativeProgram, host: Host) => Promise<Runner>;
}

export class Dataplane {
  readonly ids: Ids = newIds();
  readonly paths = new Paths();
  readonly startedAt = Date.now();
  readonly #states = new Map<string, InstanceState>();
  readonly #draining = new Map<string, Draining>();
  readonly #key: Uint8Array;
  #configuration: Configuration;
  #generation = 1;
  #runner!: Runner;
  #program!: NativeProgram;
  #changes: Promise<unknown> = Promise.resolve();
  readonly #cutting = new Set<string>();
  #upkeep: NodeJS.Timeout | null = null;

  private constructor(
    configuration: Configuration,
    private readonly log: Logger,
    private readonly surroundings: Surroundings,
  ) {
    this.#configuration = configuration;
    this.#key = configuration.affinityKeyFile === null ? randomBytes(16) : loadAffinityKey(configuration.affinityKeyFile);
    for (const chain of configuration.chains) this.paths.add(chain, 'keep');
  }

  static async start(configuration: Configuration, log: Logger, surroundings: Surroundings): Promise<Dataplane> {
    const dataplane = new Dataplane(configuration, log, surroundings);
    dataplane.#program = dataplane.#compile();
    dataplane.#runner = await surroundings.startRunner(dataplane.#program, surroundings.host);
    dataplane.#upkeep = setInterval(() => void dataplane.upkeep(), UPKEEP_MS);
    dataplane.#upkeep.unref();
    return dataplane;
  }

  get configuration(): Configuration {
    return this.#configuration;
  }
  get generation(): number {
    return this.#generation;
  }
  get runner(): Runner {
    return this.#runner;
  }
  get program(): NativeProgram {
    return this.#program;
  }
  get host(): Host {
    return this.surroundings.host;
  }

  stateOf(key: string): InstanceState {
    return this.#states.get(key) ?? 'up';
  }

  #compile(): NativeProgram {
    const facts: Facts = {
      generation: this.#generation,
      affinityKey: this.#key,
      underlay: this.surroundings.host.program,
      captureMtus: this.surroundings.host.captureMtus,
      macOf: (address) => this.surroundings.neighbours.macOf(address),
      stateOf: (key) => this.stateOf(key),
      paths: this.paths.all(),
      currentPath: (chain) => this.paths.currentId(chain),
    };
    return compile(this.#configuration, this.ids, facts);
  }

  /** Runs one change after those before it. `change` edits this object; if it, compiling or installing fails, all is as before. */
  async #change(what: string, change: () => void): Promise<ChangeAnswer> {
    const run = async (): Promise<ChangeAnswer> => {
      const saved = { configuration: this.#configuration, paths: this.paths.snapshot(), states: new Map(this.#states), draining: new Map(this.#draining) };
      this.#generation++;
      try {
        change();
        const program = this.#compile();
        await this.#runner.install(program);
        this.#program = program;
      } catch (error) {
        this.#generation--;
        this.#configuration = saved.configuration;
        this.paths.restore(saved.paths);
        this.#restore(this.#states, saved.states);
        this.#restore(this.#draining, saved.draining);
        throw error;
      }
      this.log.info({ generation: this.#generation }, what);
      return { generation: this.#generation, changed: what };
    };
    const result = this.#changes.then(run, run);
    this.#changes = result.catch(() => undefined);
    return result;
  }

  #restore<K, V>(map: Map<K, V>, saved: ReadonlyMap<K, V>): void {
    map.clear();
    saved.forEach((value, key) => map.set(key, value));
  }

  /** Replaces a chain's services under traffic. */
  setChain(name: string, services: readonly string[], existing: 'keep' | 'move', who: string): Promise<ChangeAnswer> {
    return this.#change(`chain ${name} is now [${services.join(', ')}], existing streams ${existing} (${who})`, () => {
      const index = this.#configuration.chains.findIndex((chain) => chain.name === name);
      const chain = this.#configuration.chains[index];
      if (chain === undefined) throw new ChangeRefused(`there is no chain "${name}"; there are: ${this.#configuration.chains.map((c) => c.name).join(', ') || 'none'}`, 'chain');
      if (services.length > MAX_HOPS) throw new ChangeRefused(`a chain has at most ${MAX_HOPS} services, found ${services.length}`, 'services');
      const known = this.#configuration.services.map((service) => service.name);
      services.forEach((service, i) => {
        if (!known.includes(service)) throw new ChangeRefused(`there is no service "${service}"; there are: ${known.join(', ') || 'none'}`, `services[${i}]`);
        if (services.indexOf(service) !== i) throw new ChangeRefused(`service "${service}" is on the chain twice; a chain visits each service once`, `services[${i}]`);
      });
      if (services.length > 0 && this.#configuration.underlay === null) throw new ChangeRefused('the configuration has no underlay to reach services by', 'services');
      const edited: ChainConfig = { ...chain, services: [...services] };
      this.#configuration = { ...this.#configuration, chains: this.#configuration.chains.with(index, edited) };
      this.paths.add(edited, existing);
    });
  }

  /** `draining` with a deadline becomes `down` when its streams are gone or the time is over. */
  setInstance(service: string, instance: string, state: InstanceState, deadlineMs: number | null, who: string): Promise<ChangeAnswer> {
    const key = instanceKey(service, instance);
    return this.#change(`instance ${key} is now ${state} (${who})`, () => {
      const config = this.#configuration.services.find((candidate) => candidate.name === service);
      if (config === undefined) throw new ChangeRefused(`there is no service "${service}"; there are: ${this.#configuration.services.map((s) => s.name).join(', ') || 'none'}`, 'service');
      if (!config.instances.some((candidate) => candidate.name === instance)) {
        throw new ChangeRefused(`service "${service}" has no instance "${instance}"; it has: ${config.instances.map((i) => i.name).join(', ') || 'none'}`, 'instance');
      }
      this.#states.set(key, state);
      this.#draining.delete(key);
      if (state === 'draining') this.#draining.set(key, { deadlineMs: deadlineMs === null ? null : Date.now() + deadlineMs });
    });
  }

  /** What has to be looked at from time to time: neighbours, empty paths, drained instances. */
  async upkeep(nowMs = Date.now()): Promise<void> {
    try {
      const counters = this.#runner.counters();
      for (const row of counters.ports) {
        if (!row.cuts || this.#cutting.has(row.interface)) continue;
        this.#cutting.add(row.interface);
        this.log.warn(`interface ${row.interface} takes no super-frames (segmentation offload): they are cut before they reach it, which costs speed`);
      }
      const addresses = this.#configuration.services.flatMap((service) => service.instances.map((instance) => instance.address));
      if (this.surroundings.neighbours.refresh(addresses)) await this.#change('neighbours changed', () => undefined);

      const streamsOn = new Map(counters.paths.map((path) => [path.id, path.streams]));
      const before = this.paths.snapshot();
      const freed = this.paths.sweep((id) => streamsOn.get(id) ?? 0, nowMs);
      if (freed.length > 0) {
        this.paths.restore(before);
        await this.#change(`path ${freed.join(', ')} freed`, () => void this.paths.sweep((id) => streamsOn.get(id) ?? 0, nowMs));
      }

      const streamsAt = new Map(counters.instances.map((row) => [row.id, row.streams]));
      for (const [key, { deadlineMs }] of this.#draining) {
        const empty = (streamsAt.get(this.ids.instances.id(key)) ?? 0) === 0;
        if (!empty && (deadlineMs === null || nowMs < deadlineMs)) continue;
        const [service = '', instance = ''] = key.split('/');
        await this.setInstance(service, instance, 'down', null, empty ? 'drained' : 'drain deadline');
      }
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'upkeep failed; it is tried again');
    }
  }

  async stop(): Promise<void> {
    if (this.#upkeep !== null) clearInterval(this.#upkeep);
    await this.#changes;
    await this.#runner.stop();
  }
}

const workersOf = ({ workers }: Configuration): number => (workers === 'auto' ? Math.min(availableParallelism(), MAX_WORKERS) : workers);

/** Starts a dataplane on this host. Its second value lets go of what is held beside the dataplane. */
export async function startOnHost(configuration: Configuration, log: Logger): Promise<{ dataplane: Dataplane; release: () => void }> {
  const host = inspectHost(configuration);
  const sources = [host.program.ipv4, host.program.ipv6].filter((address) => address !== null);
  const release = host.underlay === null ? (): void => undefined : holdStampPorts(sources);
  try {
    const neighbours = new Neighbours(host.underlay ?? { index: 0, loopback: false });
    const addresses = configuration.services.flatMap((service) => service.instances.map((instance) => instance.address));
    if (host.underlay !== null) {
      const missing = await neighbours.resolve(addresses, RESOLVE_TIMEOUT_MS);
      if (missing.length > 0) log.warn({ addresses: missing }, `no neighbour answers for these instances yet: they get no packets until one does`);
    }
    const startRunner = async (program: NativeProgram): Promise<Runner> => {
      const options = { flowsMax: configuration.flows.max, workers: workersOf(configuration), interfaces: host.interfaces, program };
      if (configuration.port === 'ring') return startRing(options);
      const { PcapRunner } = await import('./ports/pcap-port.js');
      return new PcapRunner(options);
    };
    const dataplane = await Dataplane.start(configuration, log, { host, neighbours, startRunner }).catch((error: unknown) => {
      throw error instanceof Failure ? error : new Failure(`the dataplane can't start: ${(error as Error).message}`);
    });
    return { dataplane, release };
  } catch (error) {
    release();
    throw error;
  }
}
