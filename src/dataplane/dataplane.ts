/**
 * The running dataplane: desired state on one side, native code on the other. Changes are serialised; each compiles a whole
 * program and swaps it, or changes nothing.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../conditions/clock.js';
import type { Conditions } from '../conditions/conditions.js';
import type { Configuration, PlainDocument } from '../config/configuration.js';
import { describeChanges } from '../config/diff.js';
import { setChain } from '../config/edits.js';
import { checkFixed } from '../config/fixed.js';
import { checkDocument } from '../config/load.js';
import { ChangeRefused, DocumentRefused, GenerationMismatch } from '../config/refused.js';
import { same, sharePolicies } from '../config/share.js';
import { Events, type EventFacts } from '../observe/events.js';
import type { Logger } from '../observe/log.js';
import { WEIR, type Named } from '../observe/who.js';
import { instanceKey, loadAffinityKey } from '../program/compile.js';
import { newIds, type Ids } from '../program/ids.js';
import { FRESH, type Origin, type Prepared } from '../state/state.js';
import { Desired } from './desired.js';
import type { Host } from './host.js';
import { native, type InstanceState, type NativeProgram } from './native.js';
import type { Neighbours } from './neighbours.js';
import type { Paths } from './paths.js';
import type { Runner } from './runner.js';
import { Sampler } from './sampler.js';
import { Watch, type NeighbourFacts } from './watch.js';

const UPKEEP_MS = 1000;

/** How long a change waits for the neighbours of new instances; traffic goes on meanwhile. */
const RESOLVE_NEW_MS = 1000;
/** Changes that a log line or an event names before it only counts. */
const MOST_NAMED = 5;

export { ChangeRefused } from '../config/refused.js';

export interface ChangeAnswer {
  readonly generation: number;
  readonly changed: string;
  /** Who asked, in words. */
  readonly who: string;
}

export interface ApplyAnswer extends ChangeAnswer {
  /** What it did, or would do, one sentence each; empty where the document says the same as before. */
  readonly changes: readonly string[];
  readonly dry_run: boolean;
}

export interface ApplyOptions {
  /** Live streams of changed chains end on their path (default), or come along. */
  readonly existing?: 'keep' | 'move' | undefined;
  /** Only if this generation is still in force. */
  readonly ifGeneration?: number | undefined;
  readonly dryRun?: boolean | undefined;
}

/** What a change does to this object, and the events to tell when it is in force; nothing: that the configuration changed. */
type Change = () => readonly EventFacts[] | void;

/** Whether a change outlives the process: it must or it is not made, it does if it can, or nothing of it is kept. */
type Kept = 'must' | 'may' | 'no';

/** Where a dataplane's program runs and what its host is: the real ones, or a simulation's. */
export interface Surroundings {
  readonly host: Host;
  readonly neighbours: NeighbourFacts & Pick<Neighbours, 'refresh'> & Partial<Pick<Neighbours, 'resolve'>>;
  readonly startRunner: (program: NativeProgram, host: Host) => Promise<Runner>;
  /** What conditions tell the time by; default: the wall clock. */
  readonly clock?: Clock;
}

export class Dataplane {
  readonly ids: Ids = newIds();
  readonly startedAt = Date.now();
  readonly events: Events;
  readonly #watch: Watch;
  readonly #desired: Desired;
  readonly #key: Uint8Array;
  #runner!: Runner;
  #program!: NativeProgram;
  #changes: Promise<unknown> = Promise.resolve();
  #upkeep: NodeJS.Timeout | null = null;
  readonly #sampler = new Sampler();
  #due: NodeJS.Timeout | null = null;

  private constructor(
    configuration: Configuration,
    private readonly log: Logger,
    private readonly surroundings: Surroundings,
    private readonly origin: Origin,
  ) {
    this.#desired = new Desired(configuration, origin, surroundings.clock);
    this.events = new Events(() => this.#desired.generation, log);
    this.#watch = new Watch(this.events, log, (name) => native.interfaceInfo(name));
    this.#key = configuration.affinityKeyFile === null ? randomBytes(16) : loadAffinityKey(configuration.affinityKeyFile);
  }

  static async start(configuration: Configuration, log: Logger, surroundings: Surroundings, origin = FRESH): Promise<Dataplane> {
    const dataplane = new Dataplane(configuration, log, surroundings, origin);
    dataplane.#program = dataplane.#compile();
    dataplane.#runner = await surroundings.startRunner(dataplane.#program, surroundings.host);
    dataplane.#told(WEIR);
    await dataplane.#keepFirst();
    dataplane.#upkeep = setInterval(() => void dataplane.upkeep(), UPKEEP_MS);
    dataplane.#upkeep.unref();
    dataplane.#watch.captures(configuration, 'up', 'started');
    const ended = (cause: string): void => dataplane.#watch.captures(dataplane.configuration, 'down', cause);
    dataplane.#runner.finished.then(() => ended('stopped'), (error: unknown) => ended((error as Error).message));
    return dataplane;
  }

  get configuration(): Configuration {
    return this.#desired.configuration;
  }
  get generation(): number {
    return this.#desired.generation;
  }
  /** The same with the policies of the named configuration that is in force. */
  get inForce(): Configuration {
    return this.conditions.installedIn(this.configuration);
  }
  get conditions(): Conditions {
    return this.#desired.conditions;
  }
  get paths(): Paths {
    return this.#desired.paths;
  }
  /** The configuration with the services, chains and instances that are no longer in it but still ending. */
  get whole(): Configuration {
    return this.#desired.whole();
  }
  get runner(): Runner {
    return this.#runner;
  }
  get program(): NativeProgram {
    return this.#program;
  }
  get host(): Host {
    return this.surroundings.host;
  }

  stateOf(key: string): InstanceState {
    return this.#desired.stateOf(key);
  }

  #compile(): NativeProgram {
    const { host, neighbours } = this.surroundings;
    return this.#desired.compile(this.ids, { affinityKey: this.#key, underlay: host.program, captureMtus: host.captureMtus, macOf: (address) => neighbours.macOf(address) });
  }

  /** What a start from a file begins with is kept too, so that the next start finds it and not what was before. */
  async #keepFirst(): Promise<void> {
    try {
      await (await this.origin.keeper?.prepare(this.#desired.toSave()))?.commit();
    } catch (error) {
      this.log.error({ error: (error as Error).message }, 'the state could not be written');
    }
  }

  /** Runs `work` after all changes before it. */
  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#changes.then(work, work);
    this.#changes = result.catch(() => undefined);
    return result;
  }

  #change(what: string, who: Named, kept: Kept, change: Change): Promise<ChangeAnswer> {
    return this.#queue(() => this.#swap(what, who, kept, change));
  }

  /** One change, in its turn. If it, compiling, writing or installing fails, all is as before. */
  async #swap(what: string, who: Named, kept: Kept, change: Change): Promise<ChangeAnswer> {
    // Editors count on the generation: what weir does by itself, and nobody has to know of, makes no new one.
    const undo = this.#desired.begin(kept !== 'no');
    let draft: Prepared | null = null;
    let facts: readonly EventFacts[];
    try {
      facts = change() ?? [{ kind: 'config', cause: what }];
      const program = this.#compile();
      // What may fail on a disk is done before the swap; what is left then is a rename.
      if (kept !== 'no') draft = await this.#draft(kept);
      await this.#runner.install(program);
      this.#program = program;
    } catch (error) {
      undo();
      await draft?.discard();
      throw error;
    }
    await draft?.commit().catch((error: unknown) => this.log.error({ error: (error as Error).message }, 'the change is in force, but its state could not be put in place: a restart begins with the one before'));
    this.log.info({ generation: this.generation, who }, `${what} (${who})`);
    for (const fact of facts) this.events.emit(fact, who);
    this.#told(who);
    return { generation: this.generation, changed: what, who: String(who) };
  }

  async #draft(kept: 'must' | 'may'): Promise<Prepared | null> {
    try {
      return (await this.origin.keeper?.prepare(this.#desired.toSave())) ?? null;
    } catch (error) {
      const why = `the state can't be written (${(error as Error).message})`;
      if (kept === 'must') throw new ChangeRefused(`${why}, so nothing was changed: make room for it, or start weir with another state_dir`, 'state_dir');
      this.log.error(`${why}: the change will be lost when weir ends`);
      return null;
    }
  }

  /** Replaces the whole desired state by a document's, in one swap. Throws a ChangeRefused or a GenerationMismatch, and has changed nothing then. */
  apply(document: unknown, options: ApplyOptions, who: Named): Promise<ApplyAnswer> {
    return this.edit(() => document, options, who);
  }

  /** The same for a document that is made of the one in force at that moment. */
  edit(make: (document: PlainDocument) => unknown, { existing = 'keep', ifGeneration, dryRun = false }: ApplyOptions, who: Named): Promise<ApplyAnswer> {
    return this.#queue(async () => {
      if (ifGeneration !== undefined && ifGeneration !== this.generation) throw new GenerationMismatch(ifGeneration, this.generation);
      const before = this.configuration;
      const after = this.#next(make(before.source.document));
      const changes = describeChanges(before, after, existing);
      const idle = changes.length === 0 && same(before.source.document, after.source.document);
      if (dryRun || idle) return { generation: this.generation, changed: summary(changes), changes, dry_run: dryRun, who: String(who) };
      const missing = await this.#meet(before, after);
      const answer = await this.#swap(summary(changes), who, 'must', () => this.#desired.replace(after, existing, Date.now()));
      if (before.log.level !== after.log.level) this.log.level = after.log.level;
      const waiting = missing.map((address) => `no neighbour answers for ${address} yet: it gets no packets until one does`);
      return { ...answer, changes: [...changes, ...waiting], dry_run: false };
    });
  }

  #next(document: unknown): Configuration {
    const before = this.configuration;
    const isObject = document !== null && typeof document === 'object' && !Array.isArray(document);
    const loaded = checkDocument(isObject ? sharePolicies(before.source.document, document as PlainDocument) : document, before.source.file);
    if (!loaded.ok) throw new DocumentRefused(loaded.errors);
    const fixed = checkFixed(before, loaded.configuration);
    if (fixed.length > 0) throw new DocumentRefused(fixed);
    // The same list, so that what was made of it (rules) is known to be good.
    return { ...loaded.configuration, captures: before.captures };
  }

  /** Finds the neighbours of instances that come, before the first packet goes to one. Returns those that don't answer; upkeep asks them again. */
  async #meet(before: Configuration, after: Configuration): Promise<readonly string[]> {
    const { neighbours } = this.surroundings;
    const known = new Set(addressesOf(before));
    const fresh = addressesOf(after).filter((address) => !known.has(address));
    if (after.underlay === null || fresh.length === 0 || neighbours.resolve === undefined) return [];
    return neighbours.resolve(fresh, RESOLVE_NEW_MS);
  }

  /** Replaces a chain's services under traffic. */
  setChain(name: string, services: readonly string[], existing: 'keep' | 'move', who: Named): Promise<ApplyAnswer> {
    return this.edit(setChain(name, services), { existing }, who);
  }

  /** `draining` with a deadline becomes `down` when its streams are gone or the time is over. */
  setInstance(service: string, instance: string, state: InstanceState, deadlineMs: number | null, who: Named, cause: 'set' | 'drained' | 'deadline' = 'set'): Promise<ChangeAnswer> {
    const key = instanceKey(service, instance);
    return this.#change(`instance ${key} is now ${state}${cause === 'set' ? '' : `: ${cause}`}`, who, 'may', () => {
      const config = this.configuration.services.find((candidate) => candidate.name === service);
      if (config === undefined) throw new ChangeRefused(`there is no service "${service}"; there are: ${this.configuration.services.map((s) => s.name).join(', ') || 'none'}`, 'service');
      if (!config.instances.some((candidate) => candidate.name === instance)) {
        throw new ChangeRefused(`service "${service}" has no instance "${instance}"; it has: ${config.instances.map((i) => i.name).join(', ') || 'none'}`, 'instance');
      }
      this.#desired.setState(key, state, state === 'draining' && deadlineMs !== null ? Date.now() + deadlineMs : null);
      return [{ kind: 'instance', cause, instance: key, state }];
    });
  }

  /** Turns a switch that conditions ask for. */
  setSwitch(name: string, on: boolean, who: Named): Promise<ChangeAnswer> {
    return this.#change(`switch ${name} is now ${on ? 'on' : 'off'}`, who, 'may', () => {
      const known = this.configuration.switches.map((candidate) => candidate.name);
      if (!known.includes(name)) throw new ChangeRefused(`there is no switch "${name}"; there are: ${known.join(', ') || 'none'}`, 'name');
      this.conditions.turn(this.configuration, name, on);
    });
  }

  /** Swaps policies if conditions say so, and looks again at the very instant if time alone will say so before upkeep does. */
  async #followConditions(): Promise<void> {
    if (this.#due !== null) clearTimeout(this.#due);
    const nowMs = this.conditions.clock.now();
    this.conditions.look(this.configuration, this.#sampler.sample(this.configuration, this.#program, this.ids, this.#runner.counters(), nowMs));
    await this.#queue(async () => {
      const cause = this.conditions.pending;
      if (cause !== null) await this.#swap(`policies switch: ${cause}`, WEIR, 'may', () => []);
    });
    const waitMs = this.conditions.dueMs - this.conditions.clock.now();
    if (waitMs < UPKEEP_MS && this.#upkeep !== null) this.#due = setTimeout(() => void this.#followConditions().catch(() => undefined), Math.max(1, waitMs)).unref();
  }

  /** Tells which named configuration came into force with what was just installed. */
  #told(who: Named): void {
    for (const event of this.conditions.installed()) this.events.emit(event, who);
  }

  /** What has to be looked at from time to time: neighbours, empty paths, drained instances. */
  async upkeep(nowMs = Date.now()): Promise<void> {
    try {
      const counters = this.#runner.counters();
      this.#watch.counters(counters, nowMs);
      this.#watch.links(this.configuration, this.surroundings.host);
      if (this.surroundings.neighbours.refresh(addressesOf(this.whole))) await this.#change('neighbours changed', WEIR, 'no', () => []);
      this.#watch.neighbours(this.configuration, this.surroundings.neighbours, (key) => this.stateOf(key));

      const streamsOn = new Map(counters.paths.map((path) => [path.id, path.streams]));
      await this.#free((path) => streamsOn.get(path) ?? 0, nowMs);

      const streamsAt = new Map(counters.instances.map((row) => [row.id, row.streams]));
      for (const [key, deadlineMs] of this.#desired.draining()) {
        const empty = (streamsAt.get(this.ids.instances.id(key)) ?? 0) === 0;
        if (!empty && (deadlineMs === null || nowMs < deadlineMs)) continue;
        const [service = '', instance = ''] = key.split('/');
        await this.setInstance(service, instance, 'down', null, WEIR, empty ? 'drained' : 'deadline');
      }
      if (this.configuration.configurations.length > 0) await this.#followConditions();
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'upkeep failed; it is tried again');
    }
  }

  /** Paths that no stream is on any more, and what was only there for them. */
  #free(streamsOn: (path: number) => number, nowMs: number): Promise<void> {
    return this.#queue(async () => {
      const undo = this.#desired.begin(false);
      const { words } = this.#desired.sweep(streamsOn, nowMs);
      undo();
      if (words.length === 0) return;
      await this.#swap(words.join('; '), WEIR, 'no', () =>
        this.#desired.sweep(streamsOn, nowMs).paths.map(({ path, chain }) => ({ kind: 'path', cause: 'no stream left', path, chain }) as const),
      );
    });
  }

  async stop(): Promise<void> {
    if (this.#upkeep !== null) clearInterval(this.#upkeep);
    if (this.#due !== null) clearTimeout(this.#due);
    this.#upkeep = null;
    await this.#changes;
    await this.#runner.stop();
  }
}

/** Of every instance. */
export const addressesOf = ({ services }: Configuration): string[] => services.flatMap((service) => service.instances.map((instance) => instance.address));

function summary(changes: readonly string[]): string {
  if (changes.length === 0) return 'nothing changed';
  return changes.slice(0, MOST_NAMED).join('; ') + (changes.length > MOST_NAMED ? ` and ${changes.length - MOST_NAMED} more` : '');
}
