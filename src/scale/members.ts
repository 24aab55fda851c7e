/** Instances that weir had started, beside those that the document has. */
import { canonical } from '../config/address.js';
import type { Configuration, InstanceConfig, ServiceConfig } from '../config/configuration.js';
import type { HookConfig } from '../config/scale.js';

/** One that packets may go to, as it outlives the process. */
export interface ElasticMember {
  readonly service: string;
  readonly name: string;
  readonly address: string;
  readonly sinceMs: number;
  /** What ends it when its service has no `scale:` any more. */
  readonly remove: HookConfig;
  readonly timeoutMs: number;
}

/** Made by withMembers(), by what it was made of: so that it can be undone. */
const written = new WeakMap<ServiceConfig, ServiceConfig>();

const instanceOf = ({ name, address }: ElasticMember): InstanceConfig => ({ name, address, attach: null, underlay: null, weight: 1 });

/** The services as they are written down. */
export function withoutMembers(configuration: Configuration): Configuration {
  if (!configuration.services.some((service) => written.has(service))) return configuration;
  return { ...configuration, services: configuration.services.map((service) => written.get(service) ?? service) };
}

/** Members of services that are there, as further instances. One that the document has by now, at the same place, is the document's. */
export function withMembers(configuration: Configuration, members: readonly ElasticMember[]): Configuration {
  const plain = withoutMembers(configuration);
  const services = plain.services.map((service) => {
    const own = members.filter((member) => member.service === service.name && !service.instances.some(({ name }) => name === member.name));
    if (own.length === 0) return service;
    const grown = { ...service, instances: [...service.instances, ...own.map(instanceOf)] };
    written.set(grown, service);
    return grown;
  });
  return services.every((service, i) => service === plain.services[i]) ? plain : { ...plain, services };
}

/** Why a document can't be in force beside the members, in words; null: it can. */
export function conflict(configuration: Configuration, members: readonly ElasticMember[]): { readonly path: string; readonly message: string } | null {
  for (const service of withoutMembers(configuration).services) {
    for (const [i, { name, address }] of service.instances.entries()) {
      const path = `services.${service.name}.instances[${i}]`;
      for (const member of members) {
        const sameName = member.service === service.name && member.name === name;
        const samePlace = address !== null && canonical(address) === member.address;
        if (sameName && samePlace) continue;
        const key = `${member.service}/${member.name}`;
        if (sameName) return { path: `${path}.name`, message: `${key} was started by \`scale\` at ${member.address}: give this instance another name, or that address` };
        if (samePlace) return { path: `${path}.address`, message: `${address} is ${key}'s, which was started by \`scale\`: give this instance another address` };
      }
    }
  }
  return null;
}

/** Those of a process before this one that the document has room for. */
export function settled(configuration: Configuration, members: readonly ElasticMember[], log: { warn(text: string): void }): readonly ElasticMember[] {
  return members.filter((member) => {
    const wrong = conflict(configuration, [member]);
    if (wrong !== null) log.warn(`${member.service}/${member.name} at ${member.address} was started by \`scale\` and is left alone, since the document has its name or address for another: end it yourself`);
    return wrong === null;
  });
}
