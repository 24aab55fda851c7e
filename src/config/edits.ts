/**
 * Edits with a name: each makes the next document of the one in force, in the form its author gave it. What it makes is then
 * checked like any document; here is refused what the request says and the document does not have.
 */
import type { PlainDocument } from './configuration.js';
import { AT_LEAST_ONE_SERVICE } from './limits.js';
import { nearest } from './nearest.js';
import { ChangeRefused } from './refused.js';

export type Edit = (document: PlainDocument) => PlainDocument;

type Json = Readonly<Record<string, unknown>>;
type Named = Json & { readonly name: string };

/** Documents in force are valid: these casts say what the schema has checked. */
const mapOf = (document: PlainDocument, key: 'services' | 'chains'): Json => (document[key] as Json | undefined) ?? {};
const policiesOf = (document: PlainDocument): readonly Named[] => (document['policies'] as readonly Named[] | undefined) ?? [];

function unknown(what: string, name: string, known: readonly string[], path: string, owner = 'there is'): ChangeRefused {
  const near = nearest(name, known);
  const there = known.length > 20 ? `${known.slice(0, 20).join(', ')} and ${known.length - 20} more` : known.join(', ');
  return new ChangeRefused(`${owner} no ${what} "${name}"; ${near === null || known.length <= 20 ? `${owner === 'there is' ? 'there are' : 'it has'}: ${there || 'none'}` : `did you mean "${near}"?`}`, path);
}

function memberOf<T>(map: Json, what: string, name: string, path: string): T {
  if (!Object.hasOwn(map, name)) throw unknown(what, name, Object.keys(map), path);
  return map[name] as T;
}

const servicesOf = (chain: unknown): readonly string[] => (Array.isArray(chain) ? (chain as string[]) : (chain as { services: readonly string[] }).services);

/** The chain keeps its form: a list, or a mapping with options. */
function withServices(document: PlainDocument, name: string, change: (services: readonly string[]) => readonly string[]): PlainDocument {
  const chains = mapOf(document, 'chains');
  const chain = memberOf<unknown>(chains, 'chain', name, 'chain');
  const services = change(servicesOf(chain));
  return { ...document, chains: { ...chains, [name]: Array.isArray(chain) ? services : { ...(chain as Json), services } } };
}

function requireService(document: PlainDocument, service: string, path: string): void {
  memberOf(mapOf(document, 'services'), 'service', service, path);
}

function positionOf(services: readonly string[], chain: string, service: string, path: string): number {
  const at = services.indexOf(service);
  if (at < 0) throw unknown('service', service, services, path, `chain "${chain}" has`);
  return at;
}

function refuseTwice(services: readonly string[], service: string, path: string): void {
  if (services.includes(service)) throw new ChangeRefused(`service "${service}" would be on the chain twice; a chain visits each service once`, path);
}

export const setChain = (chain: string, services: readonly string[]): Edit => (document) =>
  withServices(document, chain, () => {
    if (services.length === 0) throw new ChangeRefused(`expected ${AT_LEAST_ONE_SERVICE}, found an empty list`, 'services');
    services.forEach((service, i) => {
      requireService(document, service, `services[${i}]`);
      refuseTwice(services.slice(0, i), service, `services[${i}]`);
    });
    return services;
  });

export interface Place {
  readonly after?: string;
  readonly before?: string;
}

/** Where something goes: after or before what it names, or at the end if it may name nothing. */
function indexFor(place: Place, length: number, find: (name: string, path: string) => number, endAllowed: boolean): number {
  const { after, before } = place;
  if (after !== undefined && before !== undefined) throw new ChangeRefused('expected either "after" or "before", found both', 'before');
  if (after !== undefined) return find(after, 'after') + 1;
  if (before !== undefined) return find(before, 'before');
  if (!endAllowed) throw new ChangeRefused('say where: "after" or "before" a service of the chain', 'after');
  return length;
}

export const insertIntoChain = (chain: string, service: string, place: Place): Edit => (document) =>
  withServices(document, chain, (services) => {
    requireService(document, service, 'service');
    refuseTwice(services, service, 'service');
    return services.toSpliced(indexFor(place, services.length, (name, path) => positionOf(services, chain, name, path), false), 0, service);
  });

export const removeFromChain = (chain: string, service: string): Edit => (document) =>
  withServices(document, chain, (services) => {
    const at = positionOf(services, chain, service, 'service');
    if (services.length === 1) throw new ChangeRefused(`service "${service}" is the last one of chain "${chain}", and a chain has ${AT_LEAST_ONE_SERVICE}`, 'service');
    return services.toSpliced(at, 1);
  });

export const replaceInChain = (chain: string, service: string, by: string): Edit => (document) =>
  withServices(document, chain, (services) => {
    const at = positionOf(services, chain, service, 'service');
    requireService(document, by, 'with');
    refuseTwice(services.toSpliced(at, 1), by, 'with');
    return services.with(at, by);
  });

/** `policy` as a document writes it; it goes to the end unless a place is named. */
export const addPolicy = (policy: Json, place: Place): Edit => (document) => {
  const policies = policiesOf(document);
  const find = (name: string, path: string): number => {
    const at = policies.findIndex((candidate) => candidate.name === name);
    if (at < 0) throw unknown('policy', name, policies.map((candidate) => candidate.name), path);
    return at;
  };
  if (policies.some((candidate) => candidate.name === policy['name'])) throw new ChangeRefused(`there is a policy "${String(policy['name'])}" already: give this one another name, or remove that one first`, 'policy.name');
  return { ...document, policies: policies.toSpliced(indexFor(place, policies.length, find, true), 0, policy as Named) };
};

export const removePolicy = (name: string): Edit => (document) => {
  const policies = policiesOf(document);
  const at = policies.findIndex((candidate) => candidate.name === name);
  if (at < 0) throw unknown('policy', name, policies.map((candidate) => candidate.name), 'policy');
  return { ...document, policies: policies.toSpliced(at, 1) };
};

export const addService = (name: string, definition: Json): Edit => (document) => {
  const services = mapOf(document, 'services');
  if (Object.hasOwn(services, name)) throw new ChangeRefused(`there is a service "${name}" already: give this one another name, or edit that one`, 'service');
  return { ...document, services: { ...services, [name]: definition } };
};

export const removeService = (name: string): Edit => (document) => {
  const services = mapOf(document, 'services');
  memberOf(services, 'service', name, 'service');
  const users = Object.entries(mapOf(document, 'chains')).filter(([, chain]) => servicesOf(chain).includes(name)).map(([chain]) => chain);
  if (users.length > 0) throw new ChangeRefused(`service "${name}" is still on ${users.length === 1 ? 'chain' : 'the chains'} ${users.join(', ')}: take it out there first`, 'service');
  return { ...document, services: Object.fromEntries(Object.entries(services).filter(([key]) => key !== name)) };
};

function withInstances(document: PlainDocument, service: string, change: (instances: readonly Named[]) => readonly Named[]): PlainDocument {
  const services = mapOf(document, 'services');
  const definition = memberOf<Json>(services, 'service', service, 'service');
  return { ...document, services: { ...services, [service]: { ...definition, instances: change(definition['instances'] as readonly Named[]) } } };
}

function instanceAt(instances: readonly Named[], service: string, name: string): number {
  const at = instances.findIndex((candidate) => candidate.name === name);
  if (at < 0) throw unknown('instance', name, instances.map((candidate) => candidate.name), 'instance', `service "${service}" has`);
  return at;
}

export const addInstance = (service: string, instance: Json): Edit => (document) =>
  withInstances(document, service, (instances) => {
    if (instances.some((candidate) => candidate.name === instance['name'])) throw new ChangeRefused(`service "${service}" has an instance "${String(instance['name'])}" already`, 'instance.name');
    return [...instances, instance as Named];
  });

export const removeInstance = (service: string, instance: string): Edit => (document) =>
  withInstances(document, service, (instances) => instances.toSpliced(instanceAt(instances, service, instance), 1));

export const weighInstance = (service: string, instance: string, weight: number): Edit => (document) =>
  withInstances(document, service, (instances) => {
    const at = instanceAt(instances, service, instance);
    return instances.with(at, { ...(instances[at] as Named), weight });
  });

/** Has a service be that of an appliance: these are its units, and no others. */
export const setUnits = (service: string, units: readonly Json[]): Edit => (document) => {
  const { services, ...rest } = withInstances(document, service, () => units as readonly Named[]);
  const definition = (services as Json)[service] as Json;
  return { ...rest, services: { ...(services as Json), [service]: { ...definition, balancer: 'units' } } };
};
