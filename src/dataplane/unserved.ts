/** Chains that a change leaves with a service that nobody performs: who made it is told at once, and not by those whose streams end. */
import type { Configuration, ServiceConfig } from '../config/configuration.js';
import { chainChanged } from '../config/diff.js';
import { same } from '../config/share.js';
import { reachable } from '../program/attachments.js';
import { instanceKey } from '../program/compile.js';
import type { Ids } from '../program/ids.js';
import type { NativeProgram } from './native.js';

interface Now {
  readonly program: NativeProgram;
  readonly ids: Pick<Ids, 'instances'>;
}

/** In words, what becomes of new streams there. */
export const withoutInstance = (fail: ServiceConfig['fail'], streams: string): string => (fail === 'open' ? `${streams} skip it until one can (fail: open)` : `${streams} are dropped until one can (fail: closed)`);

/** One sentence for each service of each chain that the change is about. Of instances that are only to come (a dry run) the best is thought. */
export function unserved(before: Configuration, after: Configuration, { program, ids }: Now): string[] {
  const known = new Map(program.instances.map((instance) => [ids.instances.name(instance.id), instance]));
  const takes = (key: string): boolean => {
    const instance = known.get(key);
    return instance === undefined || (instance.state === 'up' && reachable(instance));
  };
  const services = new Map(after.services.map((service) => [service.name, service]));
  const wereServices = new Map(before.services.map((service) => [service.name, service]));
  const wereChains = new Map(before.chains.map((chain) => [chain.name, chain]));
  return after.chains.flatMap((chain) => {
    const was = wereChains.get(chain.name);
    const isNew = was === undefined || chainChanged(was, chain);
    return chain.services.flatMap((name) => {
      const service = services.get(name);
      if (service === undefined || (!isNew && same(service.instances, wereServices.get(name)?.instances))) return [];
      if (service.instances.some((instance) => takes(instanceKey(name, instance.name)))) return [];
      return [`warning: no instance of ${name} can take packets now: ${withoutInstance(service.fail, `streams of chain ${chain.name}`)}`];
    });
  });
}
