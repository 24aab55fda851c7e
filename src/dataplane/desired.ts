/** The desired state with its past: the configuration, which of its policies conditions say, the versions of its chains, the states of its instances, and what is still ending. */
import { resolve } from 'node:path';
import { SYSTEM_CLOCK, type Clock } from '../conditions/clock.js';
import { Conditions } from '../conditions/conditions.js';
import type { Configuration } from '../config/configuration.js';
import { chainChanged, policiesConcerned } from '../config/diff.js';
import { compile, instanceKey, type Facts } from '../program/compile.js';
import { idsRevision, type Ids } from '../program/ids.js';
import type { Meaning, Origin, SavedInstance, SavedState } from '../state/state.js';
import { Ending } from './ending.js';
import { followMembers } from './members.js';
import type { InstanceState, NativeProgram } from './native.js';
import { Paths } from './paths.js';
import { conflict, withMembers, type ElasticMember } from '../scale/members.js';
import { ChangeRefused } from '../config/refused.js';

/** By then every live stream has been looked at, also silent ones: native code looks at each about once a second. */
const MOVE_MS = 30_000;

export class Desired {
  readonly paths = new Paths();
  readonly conditions: Conditions;
  readonly #ending = new Ending();
  /** By `service/name`; the others are up. */
  readonly #instances = new Map<string, SavedInstance>();
  /** Those that fail, whatever people set. */
  #failing: ReadonlySet<string> = new Set();
  /** What load makes of weights. */
  #factors: ReadonlyMap<string, number> = new Map();
  /** Policies that were changed with `existing: move`. */
  readonly #moves = new Map<string, { readonly generation: number; readonly untilMs: number }>();
  /** Instances that hooks started; the configuration has them. */
  #members: readonly ElasticMember[];
  #configuration: Configuration;
  #generation: number;

  constructor(configuration: Configuration, origin: Origin, clock: Clock = SYSTEM_CLOCK) {
    this.conditions = new Conditions(clock, origin.switches);
    this.#configuration = configuration;
    this.#generation = origin.generation;
    this.#members = origin.elastic ?? [];
    const keys = keysOf(configuration);
    for (const [key, saved] of Object.entries(origin.instances)) if (keys.has(key)) this.#instances.set(key, saved);
    const before = origin.continuity?.before ?? null;
    if (before === null) for (const chain of configuration.chains) this.paths.add(chain, 'keep');
    else this.#resume(before);
  }

  /** Goes on with the paths of the last process; services that only they have go on with them. */
  #resume({ paths, services }: Meaning): void {
    const own = new Set(this.#configuration.services.map(({ name }) => name));
    const gone = new Map(services.filter(({ name }) => !own.has(name)).map((service) => [service.name, service]));
    this.paths.resume(paths, this.#configuration.chains, (service) => own.has(service) || gone.has(service));
    const used = new Set(this.paths.all().flatMap((path) => path.services));
    for (const [name, service] of gone) if (used.has(name)) this.#ending.resume(service);
  }

  /** What the numbers of its programs mean, but for the ids. */
  meaning(): Omit<Meaning, 'ids'> {
    const used = new Set(this.paths.all().flatMap((path) => path.services));
    const services = [...this.#configuration.services, ...this.#ending.services()].filter(({ name }) => used.has(name));
    return { captures: this.#configuration.captures, paths: this.paths.toSave(), services };
  }

  /** Changes whenever meaning() or the ids do. */
  meaningRevision(ids: Ids): string {
    return `${idsRevision(ids)} ${JSON.stringify(this.meaning())}`;
  }

  get configuration(): Configuration {
    return this.#configuration;
  }
  get generation(): number {
    return this.#generation;
  }

  /** Begins a change, and with `next` a generation. The function that it returns takes back everything since. */
  begin(next: boolean): () => void {
    const saved = { switches: this.conditions.switches, generation: this.#generation, configuration: this.#configuration, paths: this.paths.snapshot(), ending: this.#ending.snapshot(), instances: new Map(this.#instances), failing: this.#failing, factors: this.#factors, members: this.#members, moves: new Map(this.#moves) };
    if (next) this.#generation++;
    return () => {
      this.#generation = saved.generation;
      this.#configuration = saved.configuration;
      this.conditions.restore(saved.switches, saved.configuration);
      this.paths.restore(saved.paths);
      this.#ending.restore(saved.ending);
      this.#instances.clear();
      saved.instances.forEach((state, key) => this.#instances.set(key, state));
      this.#failing = saved.failing;
      this.#factors = saved.factors;
      this.#members = saved.members;
      this.#moves.clear();
      saved.moves.forEach((move, policy) => this.#moves.set(policy, move));
    };
  }

  /** A configuration as it is written down, with the instances that hooks started. Throws a ChangeRefused where they don't go together. */
  withMembers(written: Configuration): Configuration {
    const wrong = conflict(written, this.#members);
    if (wrong !== null) throw new ChangeRefused(wrong.message, wrong.path);
    return withMembers(written, this.#members);
  }

  setMembers(members: readonly ElasticMember[]): void {
    this.#members = members;
  }

  /** Changed chains get new paths; those that are gone keep theirs until no stream is left. Instances that remain keep their state. */
  replace(after: Configuration, existing: 'keep' | 'move', nowMs: number): void {
    const before = this.#configuration;
    this.#configuration = after;
    const chains = new Map(before.chains.map((chain) => [chain.name, chain]));
    for (const chain of after.chains) {
      const was = chains.get(chain.name);
      chains.delete(chain.name);
      if (was === undefined || chainChanged(was, chain)) this.paths.add(chain, existing);
    }
    for (const gone of chains.keys()) this.paths.retire(gone);
    if (existing === 'move') for (const policy of policiesConcerned(before.policies, after.policies)) this.#moves.set(policy, { generation: this.#generation, untilMs: nowMs + MOVE_MS });
    this.#ending.replaced(before, after, nowMs);
    this.#forgetInstances();
  }

  #forgetInstances(): void {
    const keys = keysOf(this.#configuration);
    for (const key of this.#instances.keys()) if (!keys.has(key) && !this.#ending.hasService(key.split('/')[0] ?? '')) this.#instances.delete(key);
  }

  /** What counts: one that fails is down, also while it drains. */
  stateOf(key: string): InstanceState {
    const set = this.setStateOf(key);
    return this.#failing.has(key) && (set === 'up' || set === 'draining') ? 'down' : set;
  }

  /** Those that fail by their health. */
  get failing(): ReadonlySet<string> {
    return this.#failing;
  }
  setFailing(keys: ReadonlySet<string>): void {
    this.#failing = keys;
  }

  setFactors(factors: ReadonlyMap<string, number>): void {
    this.#factors = factors;
  }

  /** What people set. */
  setStateOf(key: string): InstanceState {
    return this.#ending.hasLeft(key) ? 'down' : (this.#instances.get(key)?.state ?? 'up');
  }

  setState(key: string, state: InstanceState, deadlineMs: number | null): void {
    if (state === 'up') this.#instances.delete(key);
    else this.#instances.set(key, { state, deadlineMs });
  }

  /** Instances that wait for their last stream, each with the time that it has at most. */
  draining(): readonly (readonly [key: string, deadlineMs: number | null])[] {
    const waiting = [...this.#instances].filter(([, { state }]) => state === 'draining');
    if (waiting.length === 0) return [];
    // Those of a service that was taken out go with it.
    const keys = keysOf(this.#configuration);
    return waiting.filter(([key]) => keys.has(key)).map(([key, { deadlineMs }]) => [key, deadlineMs] as const);
  }

  /** Lets go of paths without streams and of what only they needed; says in words what. */
  sweep(streamsOn: (path: number) => number, nowMs: number): { readonly paths: readonly { readonly path: number; readonly chain: string }[]; readonly words: readonly string[] } {
    const chainOf = new Map(this.paths.all().map((path) => [path.id, path.chain]));
    const paths = this.paths.sweep(streamsOn, nowMs).map((path) => ({ path, chain: chainOf.get(path) ?? '' }));
    const { instances, services } = this.#ending.sweep(this.paths, nowMs);
    this.#forgetInstances();
    const say = (what: string, list: readonly string[]): string[] => (list.length === 0 ? [] : [`${what} ${list.join(', ')} freed`]);
    return { paths, words: [...say('path', paths.map(({ path }) => String(path))), ...say('service', services), ...say('instance', instances)] };
  }

  /** The configuration with everything that is ending. */
  whole(): Configuration {
    return this.#ending.with(this.#configuration, this.paths);
  }

  /** Has the members of paths follow which runs of instances can be reached. */
  follow(sessionOf: (key: string) => string | null): void {
    followMembers(this.paths, this.whole(), { sessionOf, stateOf: (key) => this.stateOf(key), failing: (key) => this.stateOf(key) === 'down' && this.setStateOf(key) !== 'down' });
  }

  compile(ids: Ids, machine: Pick<Facts, 'affinityKey' | 'probeKey' | 'underlays' | 'captureMtus' | 'macOf' | 'underlayOf' | 'mtuOf' | 'attachmentOf' | 'proxyPorts'>): NativeProgram {
    for (const [policy, { untilMs }] of this.#moves) if (Date.now() >= untilMs) this.#moves.delete(policy);
    const facts: Facts = {
      ...machine,
      generation: this.#generation,
      stateOf: (key) => this.stateOf(key),
      factorOf: (key) => this.#factors.get(key) ?? 1,
      paths: this.paths.all(),
      moves: [...this.#moves].map(([policy, { generation }]) => ({ policy, generation })),
      currentPath: (chain) => this.paths.currentId(chain),
    };
    return compile(this.conditions.decided(this.whole()), ids, facts);
  }

  toSave(): SavedState {
    const { file, document } = this.#configuration.source;
    return { generation: this.#generation, file: resolve(file), document, instances: Object.fromEntries(this.#instances), elastic: this.#members, ...this.conditions.toSave() };
  }
}

function keysOf({ services }: Configuration): Set<string> {
  return new Set(services.flatMap((service) => service.instances.map((instance) => instanceKey(service.name, instance.name))));
}
