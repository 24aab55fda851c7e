/**
 * Who serves the streams of a path. On mesh chains, and where state is synced, a path has its members: everybody who knows them finds the
 * same instance for a stream by its code alone. Whoever comes, or comes back, serves streams of a new path, and ranks after all members of
 * the paths that there are: it changes nobody's place, is filled when it is second, and serves a live stream when all before it are gone. So a
 * live stream stays where its state is, and after a failure goes to the one instance that has a copy. Where no member of a service is left,
 * and with them no state, streams go over to a path with those that there are then, and with the members that the other services have, so that
 * the states there stay.
 */
import type { ChainConfig, Configuration, ServiceConfig } from '../config/configuration.js';
import { same } from '../config/share.js';
import { instanceKey, type PathMember } from '../program/compile.js';
import type { InstanceState } from './native.js';
import { mayMove, type Paths, type PathView } from './paths.js';

/** Versions of a chain that live streams may be on: each restart of an instance makes one. Streams of older ones go over to the current one. */
const MOST_VERSIONS = 64;
/** Runs given up on a path that may still be there: far more than a service has instances. */
const MOST_FORMER = 1000;

export interface MemberFacts {
  /** Of the run of an instance that can be reached now; null: there is none. */
  readonly sessionOf: (key: string) => string | null;
  readonly stateOf: (key: string) => InstanceState;
  /** Whether it is down by what its health says, and by nothing else. Default: none is. */
  readonly failing?: (key: string) => boolean;
}

type Members = readonly (readonly PathMember[])[];

/** Whether everybody has to find the instances of its streams by himself. */
export function hasMembers(chain: Pick<ChainConfig, 'return' | 'services'>, services: ReadonlyMap<string, ServiceConfig>): boolean {
  return chain.return === 'mesh' || chain.services.some((name) => (services.get(name)?.sync ?? 'off') !== 'off');
}

/** Has the paths follow what is there. Pure but for `paths`. */
export function followMembers(paths: Paths, configuration: Configuration, all: MemberFacts): void {
  const services = new Map(configuration.services.map((service) => [service.name, service]));
  for (const path of paths.all()) if (path.members != null) shrink(paths, path, path.members, services, all);
  // A run that was given up has states of streams that others have served since. It has to begin anew, and the map tells it so.
  const givenUp = new Set(paths.all().flatMap(({ former = [] }) => former.map(({ session }) => session)));
  const sessionOf = (key: string): string | null => {
    const session = all.sessionOf(key);
    return session === null || givenUp.has(session) ? null : session;
  };
  const facts = { ...all, sessionOf };
  for (const chain of configuration.chains) {
    const current = paths.get(paths.currentId(chain.name));
    if (current === undefined) continue;
    if (!hasMembers(chain, services)) {
      if (current.members != null) paths.add(chain, 'keep');
      continue;
    }
    const wanted = chain.services.map((name) => newStreams(services.get(name), facts));
    if (current.members == null) paths.setMembers(current.id, wanted);
    else if (!same(current.members, wanted) && !isWaited(current.members, wanted, facts)) paths.add(chain, 'keep', wanted);
    for (const path of paths.all()) if (path.chain === chain.name && path.movedTo === 0 && path.members != null) join(paths, path, path.members, services, facts);
    clearUp(paths, chain.name, services, facts);
  }
}

/** Whether new streams would have nobody for a service whose instances may be back at any moment. */
function isWaited(members: Members, wanted: Members, { failing = () => false }: MemberFacts): boolean {
  return wanted.some((list, hop) => list.length === 0 && members[hop]?.some(({ key }) => failing(key)) === true);
}

/** In the order of their keys, which is the same for everybody. */
function newStreams(service: ServiceConfig | undefined, { sessionOf, stateOf }: MemberFacts): PathMember[] {
  return (service?.instances ?? [])
    .flatMap(({ name, weight }): PathMember[] => {
      const key = instanceKey(service?.name ?? '', name);
      const session = stateOf(key) === 'up' ? sessionOf(key) : null;
      return session === null ? [] : [{ key, session, weight }];
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function shrink(paths: Paths, path: PathView, members: Members, services: ReadonlyMap<string, ServiceConfig>, { sessionOf, stateOf, failing = () => false }: MemberFacts): void {
  const left = members.map((list, hop) => {
    // Where streams wait for their instance, nobody takes its place.
    const service = services.get(path.services[hop] ?? '');
    if (service?.onFailure === 'hold') return list.filter(({ key }) => service.instances.some(({ name }) => instanceKey(service.name, name) === key));
    const there = list.filter(({ key, session }) => sessionOf(key) === session);
    const well = there.filter(({ key }) => stateOf(key) === 'up' || stateOf(key) === 'draining');
    // Nobody else has the states: while those who do still say hello, checks that fail for all of them at once may be wrong.
    return well.length > 0 ? well : there.filter(({ key }) => failing(key));
  });
  const before = path.former ?? [];
  const gone = members.flatMap((list, hop) => list.filter((member) => left[hop]?.includes(member) !== true));
  const former = [...before, ...gone].filter(({ key, session }) => [null, session].includes(sessionOf(key))).map(({ key, session }) => ({ key, session }));
  if (gone.length > 0 || former.length < before.length) paths.setMembers(path.id, left, former.slice(-MOST_FORMER));
}

/** Those that a path does not have yet become its last members. Where nobody is left there is nothing that they could be filled with. */
function join(paths: Paths, path: PathView, members: Members, services: ReadonlyMap<string, ServiceConfig>, facts: MemberFacts): void {
  const now = members.map((list, hop) => {
    const service = services.get(path.services[hop] ?? '');
    if (list.length === 0 || service?.onFailure === 'hold') return list;
    const late = newStreams(service, facts).filter(({ key }) => !list.some((one) => one.key === key));
    return late.length === 0 ? list : inTiers(list, late);
  });
  if (now.some((list, hop) => list !== members[hop])) paths.setMembers(path.id, now);
}

/** With gaps closed, so that tiers stay few. 0 is for those only that the path was made with: forwarders go by it (Path::has_late_member). */
function inTiers(list: readonly PathMember[], late: readonly PathMember[]): PathMember[] {
  const tiers = [...new Set([0, ...list.map(({ tier = 0 }) => tier)])];
  return [...list.map(({ tier = 0, ...member }) => (tier === 0 ? member : { ...member, tier: tiers.indexOf(tier) })), ...late.map((member) => ({ ...member, tier: tiers.length }))];
}

/** Streams whose service has no member left on their path go over to one where it has; so do, to the current path, those of very old versions. */
function clearUp(paths: Paths, chain: string, services: ReadonlyMap<string, ServiceConfig>, facts: MemberFacts): void {
  const current = paths.get(paths.currentId(chain));
  if (current?.members == null) return;
  const older = paths.all().filter((path) => path.chain === chain && path.id !== current.id && path.movedTo === 0 && path.members != null).sort((a, b) => b.version - a.version);
  const open = (name: string): boolean => services.get(name)?.fail === 'open';
  older.forEach((path, i) => {
    const lost = path.services.filter((_, hop) => path.members?.[hop]?.length === 0);
    if (i >= MOST_VERSIONS) {
      const home = [current, ...older].find((to) => mayMove(path, to));
      if (home !== undefined && home.id !== path.id) paths.move(path.id, home.id);
      return;
    }
    if (lost.length === 0) return;
    // What the chain no longer has need not come back: then its streams have the services that the chain has now.
    const models = lost.every((name) => current.services.includes(name)) ? [path] : [path, current];
    for (const model of models) {
      const members = model.services.map((name) => {
        const had = path.members?.[path.services.indexOf(name)] ?? [];
        return had.length > 0 ? had : newStreams(services.get(name), facts);
      });
      if (same(model.services, path.services) && same(members, path.members)) continue;
      if (!members.every((list, hop) => list.length > 0 || open(model.services[hop] ?? ''))) continue;
      if (same(model.services, current.services) && same(members, current.members) && mayMove(path, current)) paths.move(path.id, current.id);
      else paths.succeed(path.id, model.id, members);
      return;
    }
  });
}
