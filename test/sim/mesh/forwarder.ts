/** weir in a simulation: the real pipeline, paths, members, program and controller; only what is asynchronous around them is not. */
import { native, type InstanceState, type NativeEngine } from '../../../src/dataplane/native.js';
import { followMembers } from '../../../src/dataplane/members.js';
import { Paths } from '../../../src/dataplane/paths.js';
import type { Configuration } from '../../../src/config/configuration.js';
import { MeshController } from '../../../src/mesh/controller.js';
import { contentOf } from '../../../src/mesh/content.js';
import { compile, instanceKey, replayFacts } from '../../../src/program/compile.js';
import { newIds } from '../../../src/program/ids.js';
import { valid } from '../../support/configuration.js';
import { ALL, INSTANCES, SERVICES, nodesOf } from './events.js';
import { KEY } from './node.js';
import type { World } from './world.js';

export const WEIR = 'weir';
const LEASE_MS = 120;
const TICK_MS = 10;
const UPKEEP_MS = 200;
/** What a change waits for every node to have the new paths. */
const MAP_WAIT_MS = 100;
const IN = 1;
const OUT = 2;

export const addressOf = (key: string): string => `10.20.0.${10 + ALL.indexOf(key)}`;

export interface ForwarderWorld {
  readonly world: World;
  readonly toNode: (address: string, kind: 'mesh' | 'frame', bytes: Buffer) => void;
  /** A frame that leaves the capture, by its `out` or its `in` side. */
  readonly leaves: (frame: Buffer, answer: boolean) => void;
  /** A run of an instance is no longer a member of any path. */
  readonly lost: (key: string) => void;
  /** It has become one. */
  /** A run has become a member of a path: `path session`. */
  readonly joined: (place: string) => void;
}

export class SimForwarder {
  readonly paths = new Paths();
  readonly controller: MeshController;
  readonly engine: NativeEngine = new native.Engine({ flowsMax: 1000 });
  readonly #ids = newIds();
  readonly #states = new Map<string, InstanceState>();
  readonly #instances = new Map(SERVICES.map((service) => [service as string, new Map(nodesOf(service).slice(0, INSTANCES).map((key) => [key, 1]))]));
  #services: readonly string[] = SERVICES;
  #configuration: Configuration;
  /** A change waits for the nodes. */
  #pending = false;
  #again = false;
  /** It waits no longer: something has failed. */
  #hurried = false;
  /** Changes come one after another, as the dataplane has them. */
  readonly #later: (() => void)[] = [];
  #known = new Set<string>();
  #places = new Set<string>();

  constructor(private readonly env: ForwarderWorld) {
    this.#configuration = this.#configure();
    this.controller = new MeshController({
      now: () => env.world.nowMs,
      send: ({ address }, datagram) => env.toNode(address, 'mesh', datagram),
      key: KEY,
      session: 'c0c0c0c0c0c0c0c0',
      leaseMs: LEASE_MS,
      changed: () => this.change(),
      tell: () => undefined,
    });
    this.#tellController();
    for (const chain of this.#configuration.chains) this.paths.add(chain, 'keep');
    this.#install();
    const tick = (): void => {
      this.controller.tick();
      env.world.after(TICK_MS, tick);
    };
    const upkeep = (): void => {
      this.#upkeep();
      env.world.after(UPKEEP_MS, upkeep);
    };
    tick();
    upkeep();
  }

  #configure(): Configuration {
    const services = SERVICES.map((name) => `  ${name}: {sync: strict, instances: [${[...(this.#instances.get(name) ?? [])].map(([key, weight]) => `{name: ${key.split('/')[1]}, address: ${addressOf(key)}, weight: ${weight}}`).join(', ')}]}`);
    return valid(`
underlay: {interface: u, address: 10.20.0.1}
captures: [{name: a, in: b, out: c}]
services:
${services.join('\n')}
chains: {line: {services: [${this.#services.join(', ')}], return: mesh}}
mesh: {key: {file: k}, lease: ${LEASE_MS}ms}
policies: [{name: all, match: {protocol: udp}, chain: line}]`);
  }

  #tellController(): void {
    this.controller.configure(this.#configuration.services.flatMap(({ name, instances }) => instances.map((instance) => ({ key: instanceKey(name, instance.name), address: instance.address ?? '' }))));
  }

  #upkeep(): void {
    if (this.#pending) return;
    const streams = new Map(this.engine.counters().paths.map(({ id, streams: count }) => [id, count]));
    if (this.paths.sweep((path) => streams.get(path) ?? 0, this.env.world.nowMs).length > 0) this.change();
  }

  /** Members, new paths to the nodes, and then the program: as the dataplane does it. */
  change(): void {
    if (this.#pending) {
      this.#again = true;
      this.#hurried = true;
      return;
    }
    const before = new Set(this.paths.all().map(({ id }) => id));
    this.#follow();
    this.#publish();
    if (this.paths.all().every(({ id }) => before.has(id))) return this.#install();
    this.#pending = true;
    this.#hurried = false;
    const endMs = this.env.world.nowMs + MAP_WAIT_MS;
    const wait = (): void => {
      if (!this.#hurried && !this.controller.everybodyHasIt && this.env.world.nowMs < endMs) return this.env.world.after(2, wait);
      this.#pending = false;
      this.#install();
      if (this.#again) {
        this.#again = false;
        this.change();
      }
      while (!this.#pending) {
        const next = this.#later.shift();
        if (next === undefined) return;
        next();
      }
    };
    wait();
  }

  #follow(): void {
    followMembers(this.paths, this.#configuration, { sessionOf: (key) => this.controller.sessionOf(key), stateOf: (key) => this.#states.get(key) ?? 'up' });
    const places = new Set(this.paths.all().flatMap((path) => (path.members ?? []).flat().map(({ session }) => `${path.id} ${session}`)));
    for (const place of places) if (!this.#places.has(place)) this.env.joined(place);
    this.#places = places;
    const now = new Set(this.paths.all().flatMap((path) => (path.members ?? []).flat().map(({ key, session }) => `${key} ${session}`)));
    for (const run of this.#known) if (!now.has(run)) this.env.lost(run.split(' ')[0] ?? '');
    this.#known = now;
  }

  #publish(): void {
    this.controller.publish(contentOf(this.#configuration, { forwarders: ['10.20.0.1'], leaseMs: LEASE_MS, paths: this.paths.all(), syncPortOf: (key) => this.controller.syncPortOf(key) }));
  }

  #install(): void {
    const facts = { ...replayFacts(this.#configuration), paths: this.paths.all(), stateOf: (key: string) => this.#states.get(key) ?? 'up', currentPath: (chain: string) => this.paths.currentId(chain), macOf: () => '02:00:00:00:00:03' };
    this.engine.install(compile(this.#configuration, this.#ids, facts));
  }

  #inTurn(work: () => void): void {
    if (this.#pending) this.#later.push(work);
    else work();
  }

  setState(key: string, state: InstanceState): void {
    this.#inTurn(() => this.#setState(key, state));
  }

  #setState(key: string, state: InstanceState): void {
    if (!(this.#instances.get(key.slice(0, 1))?.has(key) ?? false)) return;
    this.#states.set(key, state);
    this.change();
  }

  /** Another list of instances, or other weights: 0 takes one out. */
  setWeight(key: string, weight: number): void {
    this.#inTurn(() => this.#setWeight(key, weight));
  }

  #setWeight(key: string, weight: number): void {
    const list = this.#instances.get(key.slice(0, 1));
    if (list === undefined) return;
    if (weight === 0) list.delete(key);
    else list.set(key, weight);
    this.#states.delete(key);
    this.#reconfigured();
  }

  setServices(services: readonly string[]): void {
    this.#inTurn(() => this.#setServices(services));
  }

  #setServices(services: readonly string[]): void {
    if (services.join() === this.#services.join()) return;
    this.#services = services;
    const before = this.#configuration.chains[0];
    this.#configuration = this.#configure();
    const [chain] = this.#configuration.chains;
    if (before !== undefined && chain !== undefined) this.paths.add(chain, 'keep');
    this.change();
  }

  #reconfigured(): void {
    this.#configuration = this.#configure();
    this.#tellController();
    this.change();
  }

  get services(): readonly string[] {
    return this.#services;
  }

  /** From a workload or its peer. */
  captured(frame: Buffer, answer: boolean): void {
    this.#sent(this.engine.process(this.#ns, answer ? OUT : IN, frame));
  }

  returned(frame: Buffer): void {
    this.#sent(this.engine.process(this.#ns, 0, frame));
  }

  get #ns(): bigint {
    return BigInt(Math.round((this.env.world.nowMs - 1_749_999_000_000) * 1000)) * 1000n;
  }

  #sent(frames: readonly { readonly port: number; readonly bytes: Uint8Array }[]): void {
    for (const { port, bytes } of frames) {
      const frame = Buffer.from(bytes);
      if (port === 0) this.env.toNode(frame.subarray(30, 34).join('.'), 'frame', frame);
      else this.env.leaves(frame, port === IN);
    }
  }
}
