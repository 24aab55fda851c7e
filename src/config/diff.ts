/** What makes one desired state of another, in words. */
import type { ChainConfig, Configuration, InstanceConfig, PolicyConfig, ServiceConfig } from './configuration.js';
import { same } from './share.js';

/** Names listed before the rest is only counted. */
const MOST_NAMES = 5;

interface Pairing<T> {
  readonly added: readonly T[];
  readonly removed: readonly T[];
  readonly changed: readonly (readonly [before: T, after: T])[];
}

function pair<T extends { readonly name: string }>(before: readonly T[], after: readonly T[]): Pairing<T> {
  if (before === after) return { added: [], removed: [], changed: [] };
  const old = new Map(before.map((item) => [item.name, item]));
  const added: T[] = [];
  const changed: [T, T][] = [];
  for (const item of after) {
    const was = old.get(item.name);
    if (was === undefined) added.push(item);
    else if (was !== item && !same(was, item)) changed.push([was, item]);
    old.delete(item.name);
  }
  return { added, removed: [...old.values()], changed };
}

const names = (list: readonly { readonly name: string }[]): string =>
  list.slice(0, MOST_NAMES).map(({ name }) => name).join(', ') + (list.length > MOST_NAMES ? ` and ${list.length - MOST_NAMES} more` : '');

export const chainChanged = (a: ChainConfig, b: ChainConfig): boolean => a.encapsulation !== b.encapsulation || a.answers !== b.answers || !same(a.services, b.services);

/** Instances that a service gets, loses, or finds at another address. */
export const pairInstances = (before: ServiceConfig | undefined, after: ServiceConfig | undefined): Pairing<InstanceConfig> => pair(before?.instances ?? [], after?.instances ?? []);

function serviceChanges(before: ServiceConfig, after: ServiceConfig): string[] {
  const { added, removed, changed } = pairInstances(before, after);
  const of = (instance: InstanceConfig): string => `instance ${after.name}/${instance.name}`;
  return [
    ...added.map((instance) => `${of(instance)} added (${instance.address}, weight ${instance.weight})`),
    ...removed.map((instance) => `${of(instance)} removed`),
    ...changed.flatMap(([was, is]) => [
      ...(was.weight === is.weight ? [] : [`${of(is)}: weight ${was.weight} is now ${is.weight}`]),
      ...(was.address === is.address ? [] : [`${of(is)}: address ${was.address} is now ${is.address}`]),
    ]),
    ...(['affinity', 'onFailure', 'fail'] as const).filter((key) => before[key] !== after[key]).map((key) => `service ${after.name}: ${{ affinity: 'affinity', onFailure: 'on_failure', fail: 'fail' }[key]} ${before[key]} is now ${after[key]}`),
    ...(same(before.health, after.health) ? [] : [`service ${after.name}: health changed`]),
  ];
}

function chainChanges(was: ChainConfig, is: ChainConfig, existing: 'keep' | 'move'): string {
  const options = [...(was.encapsulation === is.encapsulation ? [] : [` on ${is.encapsulation}`]), ...(was.answers === is.answers ? [] : [`, answers ${is.answers}`])];
  return `chain ${is.name} is now [${is.services.join(', ')}]${options.join('')}, existing streams ${existing}`;
}

function policyChanges(before: readonly PolicyConfig[], after: readonly PolicyConfig[]): string[] {
  const { added, removed, changed } = pair(before, after);
  const said = (list: readonly PolicyConfig[], what: string): string[] => (list.length === 0 ? [] : [`${list.length === 1 ? 'policy' : `${list.length} policies`} ${what}: ${names(list)}`]);
  const lists = [...said(added, 'added'), ...said(removed, 'removed'), ...said(changed.map(([, is]) => is), 'changed')];
  if (before === after || lists.length > 0) return lists;
  return before.length === after.length && before.every((policy, i) => policy.name === after[i]?.name) ? [] : ['policies are in another order'];
}

/** Of things that are only told by name. */
function named<T extends { readonly name: string }>(what: string, { added, removed, changed }: Pairing<T>): string[] {
  const say = (list: readonly T[], did: string): string[] => list.map(({ name }) => `${what} ${name} ${did}`);
  return [...say(added, 'added'), ...say(removed, 'removed'), ...say(changed.map(([, is]) => is), 'changed')];
}

function variantChanges(before: Configuration, after: Configuration): string[] {
  const said = (what: string, { added, removed, changed }: Pairing<{ readonly name: string }>): string[] =>
    ([['added', added], ['removed', removed], ['changed', changed.map(([, is]) => is)]] as const).filter(([, list]) => list.length > 0).map(([how, list]) => `${what}${list.length === 1 ? '' : 's'} ${how}: ${names(list)}`);
  return [...said('configuration', pair(before.configurations, after.configurations)), ...said('switch', pair(before.switches, after.switches)).map((text) => text.replace(/^switchs/, 'switches'))];
}

/** One sentence for each thing that changes. */
export function describeChanges(before: Configuration, after: Configuration, existing: 'keep' | 'move'): string[] {
  const services = pair(before.services, after.services);
  const chains = pair(before.chains, after.chains);
  const value = (key: string, was: unknown, is: unknown): string[] => (was === is ? [] : [`${key} ${String(was)} is now ${String(is)}`]);
  return [
    ...services.added.map(({ name, instances }) => `service ${name} added with ${instances.length === 1 ? '1 instance' : `${instances.length} instances`}`),
    ...services.removed.map(({ name }) => `service ${name} removed`),
    ...services.changed.flatMap(([was, is]) => serviceChanges(was, is)),
    ...chains.added.map(({ name, services: list }) => `chain ${name} added: [${list.join(', ')}]`),
    ...chains.removed.map(({ name }) => `chain ${name} removed, its live streams end on it`),
    ...chains.changed.map(([was, is]) => chainChanges(was, is, existing)),
    ...policyChanges(before.policies, after.policies),
    ...variantChanges(before, after),
    ...named('configuration', pair(before.configurations, after.configurations)),
    ...named('switch', pair(before.switches, after.switches)),
    ...value('default', before.default, after.default),
    ...value('mss_clamp', before.mssClamp, after.mssClamp),
    ...value('log.level', before.log.level, after.log.level),
    ...(['tcp', 'other', 'closed'] as const).flatMap((kind) => value(`flows.idle.${kind}`, `${before.flows.idle[kind]} ms`, `${after.flows.idle[kind]} ms`)),
  ];
}
