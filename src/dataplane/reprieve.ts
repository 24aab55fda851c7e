/**
 * Two instances of a service with `sync` that fail at once take the states with them that only these two had; a check that comes late on a busy
 * host makes that out of one failure. So after one has been taken for failed, another one of the service that still says hello is not until
 * what the first one kept has been said to a third. Who really is dead costs a second more than alone.
 */
import type { ServiceConfig } from '../config/configuration.js';
import { instanceKey } from '../program/compile.js';

/** Given to the states that had one holder left to be said to another. A choice, not a measure of how long a fill takes. */
export const REPRIEVE_MS = 1000;

export class Reprieve {
  #failed: ReadonlySet<string> = new Set();
  /** Of each service: when one of it was last taken for failed. */
  readonly #lastMs = new Map<string, number>();

  /** `saysHello`: within its lease. */
  constructor(private readonly saysHello: (key: string) => boolean) {}

  /** Of the instances that their health says are down, those to be taken for failed now. To be asked again while these are fewer. */
  of(down: ReadonlySet<string>, services: readonly ServiceConfig[], nowMs: number): ReadonlySet<string> {
    const waits = new Set<string>();
    for (const { name: service, sync, instances } of services) {
      for (const key of instances.map(({ name }) => instanceKey(service, name))) {
        if (!down.has(key) || this.#failed.has(key)) continue;
        const soon = nowMs - (this.#lastMs.get(service) ?? -Infinity) < REPRIEVE_MS;
        if (soon && sync !== 'off' && this.saysHello(key)) waits.add(key);
        else this.#lastMs.set(service, nowMs);
      }
    }
    this.#failed = new Set([...down].filter((key) => !waits.has(key)));
    return this.#failed;
  }
}
