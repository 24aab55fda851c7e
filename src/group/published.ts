/** What weights are multiplied by where weir balances by the shares that a group's primary publishes. */
import type { ServiceConfig } from '../config/configuration.js';
import { instanceKey } from '../program/compile.js';

/**
 * By `service/instance`; 0: the primary gives it no new streams. `sharesOf`: what the primary says now, null where nobody has said anything
 * for a while: then what was said last goes on, and instances it did not know of have their weights.
 */
export function publishedFactors(services: readonly ServiceConfig[], sharesOf: (service: string) => Readonly<Record<string, number>> | null, before: ReadonlyMap<string, number>): Map<string, number> {
  const factors = new Map<string, number>();
  for (const service of services) {
    if (service.balancer !== 'primary_shares') continue;
    const shares = sharesOf(service.name);
    const most = shares === null ? 0 : Math.max(0, ...service.instances.map(({ name, weight }) => (shares[name] ?? 0) / weight));
    for (const { name, weight } of service.instances) {
      const key = instanceKey(service.name, name);
      const last = before.get(key);
      if (shares !== null && most > 0) factors.set(key, (shares[name] ?? 0) / weight / most);
      else if (last !== undefined) factors.set(key, last);
    }
  }
  return factors;
}
