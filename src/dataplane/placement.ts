/** Which instances new streams prefer: by the load that they report or that weir measures, or by the shares that a group's primary publishes. */
import type { Clock } from '../conditions/clock.js';
import type { Configuration, ServiceConfig } from '../config/configuration.js';
import { same } from '../config/share.js';
import { publishedFactors } from '../group/published.js';
import type { Registrar } from '../group/registrar.js';
import { LoadBalancer } from '../load/balancer.js';
import { LoadLedger } from '../load/ledger.js';
import type { Logger } from '../observe/log.js';
import type { Ids } from '../program/ids.js';

export class Placement {
  readonly load: LoadLedger;
  readonly balancer: LoadBalancer;
  #groups: Registrar | null = null;
  #published: ReadonlyMap<string, number> = new Map();

  constructor(clock: Clock, ids: Ids, log: Logger) {
    this.load = new LoadLedger(clock, (text, facts) => log.warn(facts, text));
    this.balancer = new LoadBalancer(clock, this.load, (key) => ids.instances.id(key));
  }

  /** Null: none can be, since nothing is listened for. */
  get groups(): Registrar | null {
    return this.#groups;
  }

  /** Who tells the members of groups what changes. */
  serveGroups(groups: Registrar, services: readonly ServiceConfig[]): void {
    this.#groups = groups;
    groups.follow(services);
  }

  /** What an instance's weight is multiplied by. */
  factorOf(key: string): number {
    return this.#published.get(key) ?? this.balancer.factors.get(key) ?? 1;
  }

  /** New factors by instance, or null where they are as they were. `signals`: of the runner. */
  look({ services }: Configuration, signals: Float64Array, takesStreams: (key: string) => boolean): ReadonlyMap<string, number> | null {
    this.balancer.measure(signals);
    const changed = this.balancer.look(services, takesStreams);
    const published = publishedFactors(services, (service) => this.#groups?.view(service)?.shares ?? null, this.#published);
    if (!changed && same([...published], [...this.#published])) return null;
    this.#published = published;
    return new Map([...this.balancer.factors, ...published]);
  }
}
