/** Scales every service that has `scale:`, and ends what it began for those that have none any more. */
import type { Clock } from '../conditions/clock.js';
import type { ServiceConfig } from '../config/configuration.js';
import { ScaledGroup, type ScaleView } from './group.js';
import type { ScaleHost } from './host.js';
import type { ElasticMember } from './members.js';

export class Scaler {
  readonly #groups = new Map<string, ScaledGroup>();
  readonly #ended = new AbortController();
  #looking = false;

  /** `before`: instances that a process before this one had started. */
  constructor(
    private readonly host: ScaleHost,
    private readonly clock: Clock,
    before: readonly ElasticMember[],
  ) {
    for (const service of new Set(before.map((member) => member.service))) this.#groups.set(service, this.#group(service, before.filter((member) => member.service === service)));
  }

  #group(service: string, before: readonly ElasticMember[]): ScaledGroup {
    return new ScaledGroup(service, this.host, this.clock, this.#ended.signal, before);
  }

  members(): ElasticMember[] {
    return [...this.#groups.values()].flatMap((group) => group.admitted());
  }

  /** Null: it does not scale. */
  view(service: string): ScaleView | null {
    return this.#groups.get(service)?.view() ?? null;
  }

  /** `services`: as written down. */
  async look(services: readonly ServiceConfig[]): Promise<void> {
    // What a look changes waits for other changes: the next one may come before it is over.
    if (this.#ended.signal.aborted || this.#looking) return;
    this.#looking = true;
    await this.#lookAtAll(services).finally(() => (this.#looking = false));
  }

  async #lookAtAll(services: readonly ServiceConfig[]): Promise<void> {
    for (const { name, scale } of services) if (scale !== null && !this.#groups.has(name)) this.#groups.set(name, this.#group(name, []));
    for (const [name, group] of this.#groups) {
      const service = services.find((candidate) => candidate.name === name) ?? null;
      await group.look(service);
      if (group.idle && (service?.scale ?? null) === null) this.#groups.delete(name);
    }
  }

  /** Hooks that run are ended; instances stay. */
  stop(): void {
    this.#ended.abort();
  }
}
