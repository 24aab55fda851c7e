/**
 * What the configuration no longer has and packets still need: services of paths that have not ended, chains of such paths, and
 * for a moment instances that were taken out, since what they hold at that moment must be accepted back.
 */
import type { ChainConfig, Configuration, InstanceConfig, ServiceConfig } from '../config/configuration.js';
import { pairInstances, placeOf } from '../config/diff.js';
import { instanceKey } from '../program/compile.js';
import type { Paths } from './paths.js';

/** How long an instance may hold a packet: as long as a path without streams stays known. */
const GRACE_MS = 2000;

interface Left {
  readonly service: string;
  readonly instance: InstanceConfig;
  readonly untilMs: number;
}

/** What no other instance may have: an address, or a VLAN on each of two interfaces. */
function placesOf({ address, attach }: InstanceConfig): string[] {
  if (attach === null) return [String(address)];
  if (attach.kind === 'routed') return [...new Set([`via ${attach.in}`, `via ${attach.out}`])];
  return [`${attach.in}/${attach.vlan.in}`, `${attach.out}/${attach.vlan.out}`];
}

export class Ending {
  readonly #services = new Map<string, ServiceConfig>();
  readonly #left = new Map<string, Left>();

  /** Takes note of what `after` lacks of `before`. */
  replaced(before: Configuration, after: Configuration, nowMs: number): void {
    const next = new Map(after.services.map((service) => [service.name, service]));
    for (const service of before.services) {
      const is = next.get(service.name);
      if (is === undefined) {
        this.#services.set(service.name, service);
        continue;
      }
      const { removed, changed } = pairInstances(service, is);
      const gone = [...removed, ...changed.filter(([was, now]) => placeOf(was) !== placeOf(now)).map(([was]) => was)];
      for (const instance of gone) {
        // A name of its own: streams that are pinned to the instance must not find it, so that they choose another.
        const name = `${instance.name} (left ${placeOf(instance)})`;
        this.#left.set(instanceKey(service.name, name), { service: service.name, instance: { ...instance, name }, untilMs: nowMs + GRACE_MS });
      }
    }
    for (const name of next.keys()) this.#services.delete(name);
  }

  /** Lets go of what nobody needs any more; returns the keys of instances that only packets under way were for. */
  sweep(paths: Paths, nowMs: number): { readonly instances: readonly string[]; readonly services: readonly string[] } {
    const used = new Set(paths.all().flatMap((path) => path.services));
    const services = [...this.#services.keys()].filter((name) => !used.has(name));
    const instances = [...this.#left].filter(([, { service, untilMs }]) => nowMs >= untilMs || services.includes(service)).map(([key]) => key);
    for (const name of services) this.#services.delete(name);
    for (const key of instances) this.#left.delete(key);
    return { instances, services };
  }

  /** Services that only old paths have. */
  services(): readonly ServiceConfig[] {
    return [...this.#services.values()];
  }

  /** One of another process, for paths that go on. */
  resume(service: ServiceConfig): void {
    this.#services.set(service.name, service);
  }

  /** Whether it is an instance that was taken out: it gets nothing more. */
  hasLeft(key: string): boolean {
    return this.#left.has(key);
  }

  hasService(name: string): boolean {
    return this.#services.has(name);
  }

  /** The configuration with all that is ending: what has to be compiled. Policies are the same list. */
  with(configuration: Configuration, paths: Paths): Configuration {
    const chains = paths.endingChains();
    if (this.#services.size === 0 && this.#left.size === 0 && chains.length === 0) return configuration;
    const taken = new Set(configuration.services.flatMap((service) => service.instances.flatMap(placesOf)));
    // An address or an interface has one owner: a new one gets it at once.
    const own = (instances: readonly InstanceConfig[]): InstanceConfig[] =>
      instances.filter((instance) => {
        const places = placesOf(instance);
        const free = !places.some((place) => taken.has(place));
        if (free) for (const place of places) taken.add(place);
        return free;
      });
    const left = (service: string): InstanceConfig[] => own([...this.#left.values()].filter((entry) => entry.service === service).map((entry) => entry.instance));
    return {
      ...configuration,
      services: [
        ...configuration.services.map((service) => ({ ...service, instances: [...service.instances, ...left(service.name)] })),
        ...[...this.#services.values()].map((service) => ({ ...service, instances: [...own(service.instances), ...left(service.name)] })),
      ],
      chains: [
        ...configuration.chains,
        ...chains.map((path): ChainConfig => ({ name: path.chain, services: path.services, return: 'hub', exit: 'weir', encapsulation: path.encapsulation, answers: path.answers, deliver: path.deliver, virtualAddresses: [] })),
      ],
    };
  }

  snapshot(): { readonly services: ReadonlyMap<string, ServiceConfig>; readonly left: ReadonlyMap<string, Left> } {
    return { services: new Map(this.#services), left: new Map(this.#left) };
  }

  restore(saved: ReturnType<Ending['snapshot']>): void {
    this.#services.clear();
    this.#left.clear();
    saved.services.forEach((service, name) => this.#services.set(name, service));
    saved.left.forEach((left, key) => this.#left.set(key, left));
  }
}
