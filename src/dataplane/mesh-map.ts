/** The mesh beside the dataplane: who can be a member of a path, and the service map that goes out with each program. */
import type { Configuration } from '../config/configuration.js';
import { steadyMs } from '../mesh/clock.js';
import { contentOf } from '../mesh/content.js';
import type { MeshController } from '../mesh/controller.js';
import { instanceKey } from '../program/compile.js';
import type { Desired } from './desired.js';
import { ownAddresses } from './host.js';
import { SIGNAL_COLUMNS } from './native.js';
import { Reprieve } from './reprieve.js';
import type { Surroundings } from './surroundings.js';

/** How long a new path waits for every node to know it: who does not, returns its packets to weir. */
const MAP_WAIT_MS = 100;
/** Column of signals(). */
const UNREACHABLE = 6;

export class MeshMap {
  /** Paths that nodes have been told of. */
  #told: ReadonlySet<number> = new Set();
  /** Ends the wait for nodes that is going on. */
  #endWait: (() => void) | null = null;
  readonly #reprieve = new Reprieve((key) => this.controller.sessionOf(key) !== null);

  private constructor(
    private readonly controller: MeshController,
    private readonly desired: Desired,
    private readonly surroundings: Surroundings,
  ) {
    this.configure(desired.configuration);
    for (const path of desired.paths.all()) for (const { key, session } of (path.members ?? []).flat()) controller.presume(key, session);
  }

  static of(surroundings: Surroundings, desired: Desired): MeshMap | null {
    return surroundings.mesh === undefined ? null : new MeshMap(surroundings.mesh, desired, surroundings);
  }

  configure({ services }: Configuration): void {
    this.controller.configure(services.flatMap(({ name: service, instances }) => instances.flatMap(({ name, address, attach }) => (address === null || attach !== null ? [] : [{ key: instanceKey(service, name), address }]))));
  }

  /** Before a program is made: the members of paths as they are now. An instance that has no link address can't be reached. */
  follow(): void {
    this.desired.follow((key) => {
      const [service, name] = key.split('/');
      const address = this.desired.configuration.services.find((one) => one.name === service)?.instances.find((one) => one.name === name)?.address ?? null;
      return address === null || this.surroundings.neighbours.macOf(address) === null ? null : this.controller.sessionOf(key);
    });
  }

  /** Of the instances that their health says are down, those that count as failed now. */
  failed(down: ReadonlySet<string>): ReadonlySet<string> {
    return this.#reprieve.of(down, this.desired.configuration.services, steadyMs());
  }

  /** Whether there are paths that no node knows yet. */
  get isNew(): boolean {
    return this.desired.paths.all().some((path) => path.members != null && !this.#told.has(path.id));
  }

  /** Sends the nodes their map, if it says anything new. */
  publish(): void {
    const { mesh } = this.desired.configuration;
    if (mesh === null) return;
    const { controller } = this;
    controller.publish(contentOf(this.desired.whole(), { forwarders: ownAddresses(this.surroundings.host), leaseMs: mesh.leaseMs, paths: this.desired.paths.all(), syncPortOf: (key) => controller.syncPortOf(key) }));
    this.#told = new Set(this.desired.paths.all().map((path) => path.id));
  }

  /** Nodes get to know new paths before streams do, unless something is in a hurry. */
  async known(): Promise<void> {
    let waiting = true;
    this.#endWait = () => (waiting = false);
    for (const endMs = performance.now() + MAP_WAIT_MS; waiting && !this.controller.everybodyHasIt && performance.now() < endMs; ) await new Promise((wake) => setTimeout(wake, 2));
    this.#endWait = null;
  }

  /** An instance has failed: its streams' packets are lost until its turn comes, and a new path that a node does not know yet costs a detour. */
  hurry(): void {
    this.#endWait?.();
  }

  /** ICMP errors that other instances got about one count as those that weir got: on a mesh chain it is they who send to it. */
  withReported(signals: Float64Array, idOf: (key: string) => number): Float64Array {
    const reported = new Map(this.desired.configuration.services.flatMap(({ name, instances }) => instances.map((instance) => [idOf(instanceKey(name, instance.name)), this.controller.unreachable(instanceKey(name, instance.name))] as const)));
    for (let at = 0; at + SIGNAL_COLUMNS <= signals.length; at += SIGNAL_COLUMNS) signals[at + UNREACHABLE] = (signals[at + UNREACHABLE] ?? 0) + (reported.get(signals[at] ?? -1) ?? 0);
    return signals;
  }
}
