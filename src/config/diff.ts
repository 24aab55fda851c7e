/** What makes one desired state of another, in words. */
import type { AttachConfig, ChainConfig, Configuration, InstanceConfig, PolicyConfig, ServiceConfig } from './configuration.js';
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
  // What is the same object in the same place, from the front and from the back, is most of a long list.
  let front = 0;
  while (front < before.length && before[front] === after[front]) front++;
  let back = 0;
  while (back < Math.min(before.length, after.length) - front && before.at(-1 - back) === after.at(-1 - back)) back++;
  const old = new Map(before.slice(front, before.length - back).map((item) => [item.name, item]));
  const added: T[] = [];
  const changed: [T, T][] = [];
  for (const item of after.slice(front, after.length - back)) {
    const was = old.get(item.name);
    if (was === undefined) added.push(item);
    else if (was !== item && !same(was, item)) changed.push([was, item]);
    old.delete(item.name);
  }
  return { added, removed: [...old.values()], changed };
}

const names = (list: readonly { readonly name: string }[]): string =>
  list.slice(0, MOST_NAMES).map(({ name }) => name).join(', ') + (list.length > MOST_NAMES ? ` and ${list.length - MOST_NAMES} more` : '');

type Course = Pick<ChainConfig, 'encapsulation' | 'answers' | 'deliver' | 'services'> & Partial<Pick<ChainConfig, 'return' | 'exit'>>;

/** Whether streams would go another way. */
export const chainChanged = (a: Course, b: Course): boolean => a.encapsulation !== b.encapsulation || a.answers !== b.answers || a.deliver !== b.deliver || (a.return ?? 'hub') !== (b.return ?? 'hub') || (a.exit ?? 'weir') !== (b.exit ?? 'weir') || !same(a.services, b.services);

/** Instances that a service gets, loses, or finds at another address. */
export const pairInstances = (before: ServiceConfig | undefined, after: ServiceConfig | undefined): Pairing<InstanceConfig> => pair(before?.instances ?? [], after?.instances ?? []);

/** Where an instance is reached, in words that are the same for the same place. */
export const placeOf = ({ address, attach }: InstanceConfig): string => (attach === null ? String(address) : attachText(attach));

export function attachText(attach: AttachConfig): string {
  if (attach.kind === 'routed') return attach.in === attach.out ? `via ${attach.in}` : `via ${attach.in} and ${attach.out}`;
  const side = (name: string, vlan: number): string => (vlan === 0 ? name : `${name} VLAN ${vlan}`);
  return `between ${side(attach.in, attach.vlan.in)} and ${side(attach.out, attach.vlan.out)}`;
}

const placed = ({ placement }: ServiceConfig): string => (placement === null ? 'hash' : `by load (${placement.metric})`);

const scaled = ({ scale }: ServiceConfig): string => (scale === null ? 'off' : `${scale.min} to ${scale.max} by ${scale.metric}`);

function serviceChanges(before: ServiceConfig, after: ServiceConfig): string[] {
  const { added, removed, changed } = pairInstances(before, after);
  const of = (instance: InstanceConfig): string => `instance ${after.name}/${instance.name}`;
  return [
    ...added.map((instance) => `${of(instance)} added (${placeOf(instance)}, weight ${instance.weight})`),
    ...removed.map((instance) => `${of(instance)} removed`),
    ...changed.flatMap(([was, is]) => [
      ...((was.underlay ?? null) === is.underlay ? [] : [`${of(is)}: underlay ${was.underlay ?? 'by route'} is now ${is.underlay ?? 'by route'}`]),
      ...(was.weight === is.weight ? [] : [`${of(is)}: weight ${was.weight} is now ${is.weight}`]),
      ...(placeOf(was) === placeOf(is) ? [] : [was.attach === null && is.attach === null ? `${of(is)}: address ${was.address} is now ${is.address}` : `${of(is)}: ${placeOf(was)} is now ${placeOf(is)}`]),
    ]),
    ...(['affinity', 'onFailure', 'fail', 'balancer', 'sync'] as const).filter((key) => before[key] !== after[key]).map((key) => `service ${after.name}: ${{ affinity: 'affinity', onFailure: 'on_failure', fail: 'fail', balancer: 'balancer', sync: 'sync' }[key]} ${before[key]} is now ${after[key]}`),
    ...(same(before.health, after.health) ? [] : [`service ${after.name}: health changed`]),
    ...(same(before.placement, after.placement) ? [] : [`service ${after.name}: placement ${placed(before)} is now ${placed(after)}`]),
    ...(same(before.scale, after.scale) ? [] : [`service ${after.name}: scale ${scaled(before)} is now ${scaled(after)}`]),
  ];
}

function chainChanges(was: ChainConfig, is: ChainConfig, existing: 'keep' | 'move'): string {
  if (!chainChanged(was, is)) return `chain ${is.name}: virtual addresses are now [${is.virtualAddresses.join(', ')}]`;
  const options = [...(was.deliver === is.deliver ? [] : [is.deliver ? ', delivers' : ', delivers no longer']), ...(was.encapsulation === is.encapsulation ? [] : [` on ${is.encapsulation}`]), ...(was.answers === is.answers ? [] : [`, answers ${is.answers}`]), ...(was.return === is.return ? [] : [`, return ${is.return}`]), ...(was.exit === is.exit ? [] : [`, exit ${is.exit}`])];
  return `chain ${is.name} is now [${is.services.join(', ')}]${options.join('')}, existing streams ${existing}`;
}

/** Names of the policies whose streams a change concerns. */
export function policiesConcerned(before: readonly PolicyConfig[], after: readonly PolicyConfig[]): string[] {
  const { added, removed, changed } = pair(before, after);
  return [...added, ...removed, ...changed.map(([, is]) => is)].map(({ name }) => name);
}

function policyChanges(before: readonly PolicyConfig[], after: readonly PolicyConfig[], existing: 'keep' | 'move'): string[] {
  const { added, removed, changed } = pair(before, after);
  const said = (list: readonly PolicyConfig[], what: string): string[] => (list.length === 0 ? [] : [`${list.length === 1 ? 'policy' : `${list.length} policies`} ${what}: ${names(list)}${existing === 'move' ? ', live streams move' : ''}`]);
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
    ...chains.added.map(({ name, services: list, deliver }) => `chain ${name} added: [${list.join(', ')}]${deliver ? ', delivers' : ''}`),
    ...chains.removed.map(({ name }) => `chain ${name} removed, its live streams end on it`),
    ...chains.changed.map(([was, is]) => chainChanges(was, is, existing)),
    ...policyChanges(before.policies, after.policies, existing),
    ...variantChanges(before, after),
    ...named('configuration', pair(before.configurations, after.configurations)),
    ...named('switch', pair(before.switches, after.switches)),
    ...value('default', before.default, after.default),
    ...value('mss_clamp', before.mssClamp, after.mssClamp),
    ...value('log.level', before.log.level, after.log.level),
    ...(['tcp', 'other', 'closed'] as const).flatMap((kind) => value(`flows.idle.${kind}`, `${before.flows.idle[kind]} ms`, `${after.flows.idle[kind]} ms`)),
  ];
}
