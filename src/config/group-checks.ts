/** What a group with a primary node (`balancer: primary`) needs, beyond what a schema can say. */
import type { PathStep } from './document.js';
import { entries, isObject, list, type Report } from './report.js';

/** Dispatchers of an appliance choose alike only by the map alone. */
function checkUnits(path: readonly PathStep[], service: Readonly<Record<string, unknown>>, report: Report): void {
  const contrary = Object.entries({ affinity: '5-tuple', placement: 'hash', scale: undefined, sync: 'off' }).find(([key, fits]) => service[key] !== undefined && service[key] !== fits);
  if (contrary !== undefined) report([...path, contrary[0]], `its instances are the units of an appliance, which all dispatchers have to find by the service map alone: leave ${contrary[0]} out`, `no ${contrary[0]}`, service[contrary[0]]);
}

export function checkGroups(raw: { readonly services?: unknown; readonly chains?: unknown; readonly load?: unknown }, report: Report): void {
  const ending = new Set(entries(raw.chains).flatMap(([, chain]) => (isObject(chain) && chain['deliver'] === true ? [list(chain['services']).at(-1)] : [])));
  for (const [name, service] of entries(raw.services)) {
    if (isObject(service) && service['balancer'] === 'units') checkUnits(['services', name], service, report);
    if (!isObject(service) || !['primary', 'primary_shares'].includes(String(service['balancer']))) continue;
    const path: PathStep[] = ['services', name, 'balancer'];
    if (raw.load === undefined) report(path, 'weir and the members of a group talk by the key of load reports: add `load: {key: {file: …}}`', 'load', 'primary');
    if (service['balancer'] === 'primary_shares') continue;
    if (service['affinity'] !== undefined && service['affinity'] !== '5-tuple') report(path, `a primary directs each stream by itself: expected affinity 5-tuple, found ${String(service['affinity'])}`, 'affinity: 5-tuple', service['affinity']);
    if (ending.has(name)) report(path, 'a chain delivers to this service, so nothing comes back that says where a stream is: leave `balancer: primary` out', 'a service that returns packets', 'primary');
    list(service['instances']).forEach((instance, i) => {
      if (isObject(instance) && instance['attach'] !== undefined) report(['services', name, 'instances', i, 'attach'], 'an instance with "attach" gets no stamped packets, so it can be in no group with a primary', 'an address', undefined);
    });
  }
}
