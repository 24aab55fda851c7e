/** What the service map says, of the desired state as it is. */
import type { Configuration } from '../config/configuration.js';
import { instanceKey, type PathState } from '../program/compile.js';
import type { MapContent, MapInstance } from './service-map.js';

export interface ContentFacts {
  /** Of the forwarder, on the underlay. */
  readonly forwarders: readonly string[];
  readonly leaseMs: number;
  readonly paths: readonly PathState[];
  readonly syncPortOf: (key: string) => number;
}

export function contentOf(configuration: Configuration, { forwarders, leaseMs, paths, syncPortOf }: ContentFacts): MapContent {
  const addresses = new Map(configuration.services.flatMap(({ name, instances }) => instances.map((instance) => [instanceKey(name, instance.name), instance.address] as const)));
  const instances: MapInstance[] = [];
  const numbers = new Map<string, number>();
  const number = (key: string, session: string): number => {
    const run = `${key} ${session}`;
    const known = numbers.get(run);
    if (known !== undefined) return known;
    numbers.set(run, instances.length);
    instances.push({ key, address: addresses.get(key) ?? '', session, syncPort: syncPortOf(key) });
    return instances.length - 1;
  };
  const used = new Set<string>();
  const mapped = paths
    .filter((path) => path.members != null)
    .map((path) => ({
      id: path.id,
      handsOn: path.return === 'mesh',
      answersBackwards: path.answers === 'backwards',
      ...(path.exit === 'direct' ? { exitsDirectly: true } : {}),
      hops: path.services.map((service, hop) => {
        used.add(service);
        return { service, members: (path.members?.[hop] ?? []).map(({ key, session, weight, tier = 0 }) => [number(key, session), weight, tier] as const) };
      }),
    }));
  const services = configuration.services.filter(({ name }) => used.has(name)).map(({ name, sync, fail }) => ({ name, sync, failOpen: fail === 'open' }));
  const givenUp = [...new Set(paths.flatMap(({ former = [] }) => former.map(({ session }) => session)))].sort();
  return { leaseMs, forwarders, services, instances, givenUp, paths: mapped };
}
