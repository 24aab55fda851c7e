/**
 * What another configuration would decide for streams that are there: each stream is decided twice by native code, under both programs,
 * and the two decisions are compared. Nothing is changed anywhere.
 */
import type { NativeDecision, Tuple } from '../dataplane/native.js';
import type { StillSubject } from './subject.js';

/** By names, since two programs number them differently. */
export interface DiffStream extends Omit<Tuple, 'capture'> {
  readonly capture: string;
  /** `service/instance` by hop that a live stream is pinned to. */
  readonly pinned?: readonly (string | null)[];
}

export const KINDS = ['action', 'chain', 'path', 'instance'] as const;
/** What of a decision differs. `path`: the services, their order, the encapsulation or the way of answers; `instance`: of a service on both ways. */
export type Kind = (typeof KINDS)[number];
type Changes = Readonly<Record<Kind, number>>;

export interface Outcome {
  /** Null: the default action. */
  readonly policy: string | null;
  readonly action: 'pass' | 'drop' | 'chain';
  readonly chain: string | null;
  readonly services: readonly string[];
  readonly instances: readonly (string | null)[];
}

export interface PolicyRow extends Changes {
  /** Policy that decides now; null: the default. */
  readonly policy: string | null;
  readonly streams: number;
  readonly changed: number;
  /** Policies that would decide, most streams first. */
  readonly becomes: readonly { readonly policy: string | null; readonly streams: number }[];
}

export interface ServiceRow {
  readonly service: string;
  /** Streams that visit it, now and then. */
  readonly before: number;
  readonly after: number;
  /** Of those that visit it now and then: on another instance. */
  readonly moved: number;
  readonly gained: number;
  readonly lost: number;
}

export interface Diff extends Changes {
  readonly streams: number;
  readonly changed: number;
  /** Live streams whose pins are not what the configuration in force would give a new stream: theirs were chosen earlier. */
  readonly pinnedElsewhere: number;
  /** Streams of a capture that the new configuration does not have; they count as changed. */
  readonly uncaptured: number;
  readonly policies: readonly PolicyRow[];
  readonly services: readonly ServiceRow[];
  readonly examples: readonly { readonly stream: DiffStream; readonly changes: readonly Kind[]; readonly before: Outcome; readonly after: Outcome | null }[];
}

const SLICE = 5_000;

/** Turns decisions into names; what depends on the chain alone is made once. */
class Side {
  readonly #captures: ReadonlyMap<string, number>;
  readonly #ways = new Map<number, { readonly chain: string; readonly services: readonly string[]; readonly form: string }>();
  readonly #instances = new Map<number, string>();

  constructor(readonly subject: StillSubject) {
    this.#captures = new Map(subject.configuration.captures.map((capture, i) => [capture.name, i]));
  }

  decide(stream: DiffStream): Decided | null {
    const capture = this.#captures.get(stream.capture);
    if (capture === undefined) return null;
    const decision = this.subject.describe({ ...stream, capture });
    const way = decision.action === 'chain' ? this.#way(decision.path) : null;
    return {
      policy: decision.policy < 0 ? null : (this.subject.ids.policies.name(decision.policy) ?? null),
      action: decision.action,
      chain: way?.chain ?? null,
      services: way?.services ?? [],
      instances: decision.hops.map((hop) => this.#instance(hop)),
      form: way?.form ?? '',
    };
  }

  #way(id: number) {
    let way = this.#ways.get(id);
    if (way === undefined) {
      const path = this.subject.paths.get(id);
      way = { chain: path?.chain ?? '', services: path?.services ?? [], form: JSON.stringify([path?.services, path?.encapsulation, path?.answers, path?.deliver]) };
      this.#ways.set(id, way);
    }
    return way;
  }

  #instance({ chosen }: NativeDecision['hops'][number]): string | null {
    if (chosen < 0) return null;
    let name = this.#instances.get(chosen);
    if (name === undefined) this.#instances.set(chosen, (name = this.subject.ids.instances.name(chosen) ?? `#${chosen}`));
    return name;
  }
}

interface Decided extends Outcome {
  /** Equal for equal ways through services. */
  readonly form: string;
}

const outcome = ({ form: _, ...rest }: Decided): Outcome => rest;

function differences(before: Decided, after: Decided | null): Kind[] {
  if (after === null || before.action !== after.action) return ['action'];
  const kinds: Kind[] = [];
  if (before.chain !== after.chain) kinds.push('chain');
  if (before.form !== after.form) kinds.push('path');
  if (before.form === after.form ? before.instances.some((name, i) => name !== after.instances[i]) : movedServices(before, after).length > 0) kinds.push('instance');
  return kinds;
}

/** Services on both ways that would be performed by another instance. */
function movedServices(before: Outcome, after: Outcome): string[] {
  return before.services.filter((service, i) => {
    const there = after.services.indexOf(service);
    return there >= 0 && after.instances[there] !== before.instances[i];
  });
}

const zero = (): Record<Kind, number> => ({ action: 0, chain: 0, path: 0, instance: 0 });

type Growing<T> = { -readonly [K in keyof T]: T[K] };
interface PolicyTally extends Record<Kind, number> {
  streams: number;
  changed: number;
  readonly becomes: Map<string | null, number>;
}

/** Of `examples` changed streams each kind of change is shown before a second one of it. */
export async function diff(beforeSubject: StillSubject, afterSubject: StillSubject, streams: Iterable<DiffStream>, examples = 5): Promise<Diff> {
  const [before, after] = [new Side(beforeSubject), new Side(afterSubject)];
  const total = { ...zero(), streams: 0, changed: 0, pinnedElsewhere: 0, uncaptured: 0 };
  const policies = new Map<string | null, PolicyTally>();
  const services = new Map<string, Growing<ServiceRow>>();
  const picked = new Map<string, Diff['examples'][number][]>();
  const serviceRow = (service: string): Growing<ServiceRow> => {
    let row = services.get(service);
    if (row === undefined) services.set(service, (row = { service, before: 0, after: 0, moved: 0, gained: 0, lost: 0 }));
    return row;
  };
  for (const { services: list } of [...beforeSubject.configuration.chains, ...afterSubject.configuration.chains]) for (const service of list) serviceRow(service);

  for (const stream of streams) {
    const was = before.decide(stream);
    if (was === null) continue; // a capture that the configuration in force does not have either
    const will = after.decide(stream);
    const kinds = differences(was, will);
    total.streams++;
    if (will === null) total.uncaptured++;
    if (stream.pinned !== undefined && (stream.pinned.length !== was.instances.length || stream.pinned.some((name, i) => name !== was.instances[i]))) total.pinnedElsewhere++;
    let policy = policies.get(was.policy);
    if (policy === undefined) policies.set(was.policy, (policy = { ...zero(), streams: 0, changed: 0, becomes: new Map() }));
    policy.streams++;
    policy.becomes.set(will?.policy ?? null, (policy.becomes.get(will?.policy ?? null) ?? 0) + 1);
    for (const kind of kinds) {
      total[kind]++;
      policy[kind]++;
    }
    if (kinds.length > 0) {
      total.changed++;
      policy.changed++;
      const key = `${kinds.join()} ${was.policy} ${will?.policy}`;
      const like = picked.get(key) ?? [];
      if (like.length < examples && (picked.size < 1000 || picked.has(key))) picked.set(key, [...like, { stream, changes: kinds, before: outcome(was), after: will === null ? null : outcome(will) }]);
    }
    tallyServices(was, will, serviceRow);
    // Anything else in this process gets its turn.
    if (total.streams % SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  return {
    ...total,
    policies: [...policies]
      .map(([policy, { becomes, ...row }]) => ({ policy, ...row, becomes: [...becomes].map(([name, n]) => ({ policy: name, streams: n })).sort((a, b) => b.streams - a.streams) }))
      .sort((a, b) => b.changed - a.changed || b.streams - a.streams),
    services: [...services.values()],
    examples: inTurn([...picked.values()], examples),
  };
}

function tallyServices(was: Outcome, will: Outcome | null, row: (service: string) => Growing<ServiceRow>): void {
  for (const service of was.services) {
    row(service).before++;
    if (will === null || !will.services.includes(service)) row(service).lost++;
  }
  if (will === null) return;
  for (const service of will.services) {
    row(service).after++;
    if (!was.services.includes(service)) row(service).gained++;
  }
  for (const service of movedServices(was, will)) row(service).moved++;
}

/** The first of each list, then the second of each, and so on. */
function inTurn<T>(lists: readonly (readonly T[])[], most: number): T[] {
  const longest = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list.slice(i, i + 1)))
    .flat()
    .slice(0, most);
}
