/** The desired state with its past: the configuration, which of its policies conditions say, the versions of its chains, the states of its instances, and what is still ending. */
import { resolve } from 'node:path';
import { SYSTEM_CLOCK, type Clock } from '../conditions/clock.js';
import { Conditions } from '../conditions/conditions.js';
import type { Configuration } from '../config/configuration.js';
import { chainChanged } from '../config/diff.js';
import { compile, instanceKey, type Facts } from '../program/compile.js';
import type { Ids } from '../program/ids.js';
import type { Origin, SavedInstance, SavedState } from '../state/state.js';
import { Ending } from './ending.js';
import type { InstanceState, NativeProgram } from './native.js';
import { Paths } from './paths.js';

export class Desired {
  readonly paths = new Paths();
  readonly conditions: Conditions;
  readonly #ending = new Ending();
  /** By `service/name`; the others are up. */
  readonly #instances = new Map<string, SavedInstance>();
  #configuration: Configuration;
  #generation: number;

  constructor(configuration: Configuration, origin: Origin, clock: Clock = SYSTEM_CLOCK) {
    this.conditions = new Conditions(clock, origin.switches);
    this.#configuration = configuration;
    this.#generation = origin.generation;
    const keys = keysOf(configuration);
    for (const [key, saved] of Object.entries(origin.instances)) if (keys.has(key)) this.#instances.set(key, saved);
    for (const chain of configuration.chains) this.paths.add(chain, 'keep');
  }

  get configuration(): Configuration {
    return this.#configuration;
  }
  get generation(): number {
    return this.#generation;
  }

  /** Begins a change, and with `next` a generation. The function that it returns takes back everything since. */
  begin(next: boolean): () => void {
    const saved = { switches: this.conditions.switches, generation: this.#generation, configuration: this.#configuration, paths: this.paths.snapshot(), ending: this.#ending.snapshot(), instances: new Map(this.#instances) };
    if (next) this.#generation++;
    return () => {
      this.#generation = saved.generation;
      this.#configuration = saved.configuration;
      this.conditions.restore(saved.switches, saved.configuration);
      this.paths.restore(saved.paths);
      this.#ending.restore(saved.ending);
      this.#instances.clear();
      saved.instances.forEach((state, key) => this.#instances.set(key, state));
    };
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
    this.#ending.replaced(before, after, nowMs);
    this.#forgetInstances();
  }

  #forgetInstances(): void {
    const keys = keysOf(this.#configuration);
    for (const key of this.#instances.keys()) if (!keys.has(key) && !this.#ending.hasService(key.split('/')[0] ?? '')) this.#instances.delete(key);
  }

  stateOf(key: string): InstanceState {
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

  compile(ids: Ids, machine: Pick<Facts, 'affinityKey' | 'underlay' | 'captureMtus' | 'macOf'>): NativeProgram {
    const facts: Facts = {
      ...machine,
      generation: this.#generation,
      stateOf: (key) => this.stateOf(key),
      paths: this.paths.all(),
      currentPath: (chain) => this.paths.currentId(chain),
    };
    return compile(this.conditions.decided(this.whole()), ids, facts);
  }

  toSave(): SavedState {
    const { file, document } = this.#configuration.source;
    return { generation: this.#generation, file: resolve(file), document, instances: Object.fromEntries(this.#instances), ...this.conditions.toSave() };
  }
}

function keysOf({ services }: Configuration): Set<string> {
  return new Set(services.flatMap((service) => service.instances.map((instance) => instanceKey(service.name, instance.name))));
}
