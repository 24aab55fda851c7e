/**
 * The running dataplane: desired state on one side, native code on the other. Changes are serialised; each compiles a whole
 * program and swaps it, or changes nothing.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { SYSTEM_CLOCK } from '../conditions/clock.js';
import type { Conditions } from '../conditions/conditions.js';
import type { Configuration, PlainDocument, ServiceConfig } from '../config/configuration.js';
import type { Registrar } from '../group/registrar.js';
import { describeChanges } from '../config/diff.js';
import { setChain } from '../config/edits.js';
import { checkFixed } from '../config/fixed.js';
import { checkDocument } from '../config/load.js';
import { formatErrors } from '../config/errors.js';
import { checkUnderlayOverlap } from '../config/virtual-services.js';
import { Failure } from '../failure.js';
import { ChangeRefused, DocumentRefused, GenerationMismatch } from '../config/refused.js';
import { same, sharePolicies } from '../config/share.js';
import { HealthMonitor, type HealthChange } from '../health/monitor.js';
import { Events } from '../observe/events.js';
import type { Logger } from '../observe/log.js';
import { WEIR, type Named } from '../observe/who.js';
import { instanceKey, primaryOf } from '../program/compile.js';
import { destinationsOf } from '../program/destinations.js';
import { newIds, restoreIds, type Ids } from '../program/ids.js';
import { underlayPort } from '../program/port-numbers.js';
import { withMembers, withoutMembers } from '../scale/members.js';
import { Scaler } from '../scale/scaler.js';
import { FRESH, type Origin } from '../state/state.js';
import { affinityKeyOf } from './affinity-key.js';
import { Desired } from './desired.js';
import { ownAddresses, type Host } from './host.js';
import type { MeshController } from '../mesh/controller.js';
import { MeshMap } from './mesh-map.js';
import { native, type InstanceState, type NativeProgram } from './native.js';
import { Openings } from './openings.js';
import { PathMtus } from './path-mtus.js';
import type { Paths } from './paths.js';
import { Placement } from './placement.js';
import type { Runner } from './runner.js';
import { Sampler } from './sampler.js';
import { scaleHost } from './scaling.js';
import { healthSummary, summary, waySummary } from './summary.js';
import { attachmentsIn, type Surroundings } from './surroundings.js';
import { Transactions, type Change, type ChangeAnswer, type Kept } from './transactions.js';
import { unserved } from './unserved.js';
import { Watch } from './watch.js';

const UPKEEP_MS = 1000;

export { ChangeRefused } from '../config/refused.js';

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

export class Dataplane {
  readonly ids: Ids;
  readonly startedAt = Date.now();
  readonly events: Events;
  readonly #watch: Watch;
  readonly #desired: Desired;
  readonly #key: Uint8Array;
  readonly #transactions: Transactions;
  readonly #openings: Openings;
  readonly #mesh: MeshMap | null;
  #upkeep: NodeJS.Timeout | null = null;
  readonly #probeKey = randomBytes(16);
  readonly health: HealthMonitor;
  readonly placement: Placement;
  readonly scaler: Scaler;
  /** By underlay: captures that look at it. */
  readonly #watchers = new Map<number, number>();
  readonly #sampler = new Sampler();
  readonly #pathMtus = new PathMtus();
  #due: NodeJS.Timeout | null = null;
  readonly #healthNews: HealthChange[] = [];

  private constructor(
    configuration: Configuration,
    private readonly log: Logger,
    private readonly surroundings: Surroundings,
    origin: Origin,
  ) {
    const { continuity } = origin;
    this.ids = continuity?.before == null ? newIds() : restoreIds(continuity.before.ids);
    this.#desired = new Desired(configuration, origin, surroundings.clock);
    this.events = new Events(() => this.#desired.generation, log);
    this.#watch = new Watch(this.events, log, (name) => native.interfaceInfo(name));
    this.health = new HealthMonitor(
      surroundings.clock ?? SYSTEM_CLOCK,
      {
        signals: () => {
          const signals = this.runner.signals();
          return this.#mesh?.withReported(signals, (key) => this.ids.instances.id(key)) ?? signals;
        },
        probes: () => this.runner.probes(),
        idOf: (key) => this.ids.instances.id(key),
        hasNeighbour: (address) => surroundings.neighbours.macOf(address) !== null,
      },
      (changes) => void this.#followHealth(changes),
    );
    this.placement = new Placement(surroundings.clock ?? SYSTEM_CLOCK, this.ids, log);
    this.placement.load.configure(configuration.services);
    this.scaler = new Scaler(scaleHost(this, (what) => this.#admit(what), log), surroundings.clock ?? SYSTEM_CLOCK, origin.elastic ?? []);
    this.#key = affinityKeyOf(configuration, origin);
    this.#mesh = MeshMap.of(surroundings, this.#desired);
    this.#transactions = new Transactions({ log, desired: this.#desired, ids: this.ids, origin, events: this.events, mesh: this.#mesh, compile: () => this.#compile(), installed: (who) => this.#told(who) });
    this.#openings = new Openings(surroundings, () => this.runner, log);
  }

  static async start(configuration: Configuration, log: Logger, surroundings: Surroundings, origin = FRESH): Promise<Dataplane> {
    const overlap = checkUnderlayOverlap(configuration, ownAddresses(surroundings.host));
    if (overlap.length > 0) throw new Failure(formatErrors(overlap), 2);
    const dataplane = new Dataplane(configuration, log, surroundings, origin);
    const { health } = dataplane;
    await dataplane.#transactions.begin((program, keep) => surroundings.startRunner(program, surroundings.host, keep, () => health.news()));
    health.configure(configuration.services);
    dataplane.#told(WEIR);
    await dataplane.#transactions.keepFirst();
    dataplane.#upkeep = setInterval(() => void dataplane.upkeep(), UPKEEP_MS);
    dataplane.#upkeep.unref();
    dataplane.#watch.captures(configuration, 'up', 'started');
    // What moves from now on has moved.
    dataplane.#watch.neighbours(configuration, surroundings.neighbours, (key) => dataplane.stateOf(key));
    const ended = (cause: string): void => dataplane.#watch.captures(dataplane.configuration, 'down', cause);
    dataplane.runner.finished.then(() => ended('stopped'), (error: unknown) => ended((error as Error).message));
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
    return this.#transactions.runner;
  }
  get program(): NativeProgram {
    return this.#transactions.program;
  }
  get mesh(): MeshController | undefined {
    return this.surroundings.mesh;
  }
  get host(): Host {
    return this.surroundings.host;
  }

  /** Tells whether two dataplanes have one affinity key, and nothing else of it. */
  get affinityFingerprint(): string {
    return createHmac('sha256', this.#key).update('weir affinity key').digest('hex').slice(0, 16);
  }

  /** Lets other packet sockets of the host see what goes to instances by an underlay, until the function that it returns is called. */
  showUnderlay(underlay: number): () => void {
    const port = underlayPort(underlay, this.configuration);
    const count = (change: number): number => {
      const watchers = (this.#watchers.get(underlay) ?? 0) + change;
      this.#watchers.set(underlay, watchers);
      return watchers;
    };
    if (count(1) === 1) this.runner.show?.(port, true);
    let watching = true;
    return () => {
      if (watching && count(-1) === 0) this.runner.show?.(port, false);
      watching = false;
    };
  }

  /** What counts: set by people, or down by its health. */
  stateOf(key: string): InstanceState {
    return this.#desired.stateOf(key);
  }
  /** What people set. */
  setStateOf(key: string): InstanceState {
    return this.#desired.setStateOf(key);
  }

  /** Of a group with a primary node: which instance it is now. */
  primaryOf(service: ServiceConfig): string | null {
    return primaryOf(service, { stateOf: (key) => this.stateOf(key), macOf: (address) => this.surroundings.neighbours.macOf(address) });
  }

  /** Who tells the members of groups what changes. */
  serveGroups(groups: Registrar): void {
    this.placement.serveGroups(groups, this.configuration.services);
  }

  #compile(): NativeProgram {
    const { host, neighbours } = this.surroundings;
    const attachments = attachmentsIn(this.surroundings);
    this.#mesh?.follow();
    return this.#desired.compile(this.ids, {
      affinityKey: this.#key,
      probeKey: this.#probeKey,
      underlays: host.underlays,
      captureMtus: host.captureMtus,
      ...this.#pathMtus.facts(neighbours),
      // Before the list: an attachment that is new may add a port.
      attachmentOf: (attach) => attachments.attachmentOf(attach),
      proxyPorts: attachments.proxyPorts,
    });
  }

  /**
   * Hands what it does over to another process: `work` runs while no change does, and changes that come meanwhile wait for it. It
   * ends the process, or this one goes on.
   */
  handOver(ifGeneration: number, work: () => Promise<void>): Promise<void> {
    return this.#transactions.handOver(ifGeneration, work);
  }

  /** Who serves the paths has changed. */
  async followMesh(what: string): Promise<void> {
    try {
      await this.#transactions.change(`members of paths: ${what}`, WEIR, 'no', () => []);
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'the members of paths could not be changed; it is tried again');
    }
  }

  /** Replaces the whole desired state by a document's, in one swap. Throws a ChangeRefused or a GenerationMismatch, and has changed nothing then. */
  apply(document: unknown, options: ApplyOptions, who: Named): Promise<ApplyAnswer> {
    return this.edit(() => document, options, who);
  }

  /** The same for a document that is made of the one in force at that moment. */
  edit(make: (document: PlainDocument) => unknown, { existing = 'keep', ifGeneration, dryRun = false }: ApplyOptions, who: Named): Promise<ApplyAnswer> {
    return this.#transactions.queue(async () => {
      if (ifGeneration !== undefined && ifGeneration !== this.generation) throw new GenerationMismatch(ifGeneration, this.generation);
      const before = this.configuration;
      const after = this.#next(make(before.source.document));
      const changes = describeChanges(before, after, existing);
      const idle = changes.length === 0 && same(before.source.document, after.source.document);
      if (dryRun || idle) return { generation: this.generation, changed: summary(changes), changes: idle ? changes : [...changes, ...unserved(before, after, this)], dry_run: dryRun, who: String(who) };
      const missing = await this.#openings.meet(before, after);
      const detached = await this.#openings.attach(before, after);
      const answer = await this.#replace(before, after, existing, summary(changes), who);
      this.placement.load.configure(after.services);
      this.#mesh?.configure(after);
      if (before.log.level !== after.log.level) this.log.level = after.log.level;
      const waiting = missing.map((address) => `no neighbour answers for ${address} yet: it gets no packets until one does`);
      waiting.push(...detached.map((attach) => `the instance ${attach} is not there yet: it gets no packets until it is`), ...unserved(before, after, this));
      return { ...answer, changes: [...changes, ...waiting], dry_run: false };
    });
  }

  /** What is new has to show first that it is healthy, so its checks begin before the swap. */
  async #replace(before: Configuration, after: Configuration, existing: 'keep' | 'move', what: string, who: Named, kept: Kept = 'must', also: Change = () => undefined): Promise<ChangeAnswer> {
    try {
      return await this.#transactions.swap(what, who, kept, () => {
        this.#desired.replace(after, existing, Date.now());
        this.health.configure(after.services);
        this.#desired.setFailing(this.#mesh?.failed(this.health.down) ?? this.health.down);
        return also();
      });
    } catch (error) {
      this.health.configure(before.services);
      throw error;
    }
  }

  /** Puts the instances that hooks have started into the program, and takes out those that they have ended. */
  #admit(what: string): Promise<ChangeAnswer> {
    return this.#transactions.queue(async () => {
      const before = this.configuration;
      const members = this.scaler.members();
      const after = withMembers(before, members);
      await this.#openings.meet(before, after);
      const answer = await this.#replace(before, after, 'keep', what, WEIR, 'may', () => {
        this.#desired.setMembers(members);
        return [];
      });
      this.placement.load.configure(after.services);
      this.#mesh?.configure(after);
      return answer;
    });
  }

  #next(document: unknown): Configuration {
    const before = this.configuration;
    const isObject = document !== null && typeof document === 'object' && !Array.isArray(document);
    const loaded = checkDocument(isObject ? sharePolicies(before.source.document, document as PlainDocument) : document, before.source.file);
    if (!loaded.ok) throw new DocumentRefused(loaded.errors);
    const fixed = [...checkFixed(before, loaded.configuration), ...checkUnderlayOverlap(loaded.configuration, ownAddresses(this.surroundings.host))];
    if (fixed.length > 0) throw new DocumentRefused(fixed);
    // The same list, so that what was made of it (rules) is known to be good.
    return this.#desired.withMembers({ ...loaded.configuration, captures: before.captures });
  }

  /** Replaces a chain's services under traffic. */
  setChain(name: string, services: readonly string[], existing: 'keep' | 'move', who: Named): Promise<ApplyAnswer> {
    return this.edit(setChain(name, services), { existing }, who);
  }

  /** `draining` with a deadline becomes `down` when its streams are gone or the time is over. */
  setInstance(service: string, instance: string, state: InstanceState, deadlineMs: number | null, who: Named, cause: 'set' | 'drained' | 'deadline' = 'set'): Promise<ChangeAnswer> {
    const key = instanceKey(service, instance);
    return this.#transactions.change(`instance ${key} is now ${state}${cause === 'set' ? '' : `: ${cause}`}`, who, cause === 'set' ? 'may' : 'own', () => {
      const config = this.configuration.services.find((candidate) => candidate.name === service);
      if (config === undefined) throw new ChangeRefused(`there is no service "${service}"; there are: ${this.configuration.services.map((s) => s.name).join(', ') || 'none'}`, 'service');
      if (!config.instances.some((candidate) => candidate.name === instance)) {
        throw new ChangeRefused(`service "${service}" has no instance "${instance}"; it has: ${config.instances.map((i) => i.name).join(', ') || 'none'}`, 'instance');
      }
      this.#desired.setState(key, state, state === 'draining' && deadlineMs !== null ? Date.now() + deadlineMs : null);
      return [{ kind: 'instance', cause, instance: key, state: this.stateOf(key) }];
    });
  }

  /** What several instances' health says at one time is one swap; what it says while that is under way, the next one. */
  async #followHealth(changes: readonly HealthChange[]): Promise<void> {
    this.#healthNews.push(...changes);
    if (changes.some(({ up }) => !up)) this.#mesh?.hurry();
    if (this.#healthNews.length > changes.length) return;
    try {
      await this.#transactions.queue(async () => {
        const news = this.#healthNews.splice(0);
        await this.#transactions.swap(healthSummary(news), WEIR, 'no', () => {
          this.#desired.setFailing(this.#mesh?.failed(this.health.down) ?? this.health.down);
          return news.map(({ instance, cause }) => ({ kind: 'instance', cause: `health: ${cause}`, instance, state: this.stateOf(instance) }) as const);
        });
      });
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'what health says could not be put in force; it is tried again');
    }
  }

  /** Gives lighter instances more of the new streams. Live ones have theirs. */
  async #placeByLoad(): Promise<void> {
    const factors = this.placement.look(this.configuration, this.runner.signals(), (key) => this.stateOf(key) === 'up');
    if (factors === null) return;
    await this.#transactions.change('shares of new streams follow the load', WEIR, 'no', () => {
      this.#desired.setFactors(factors);
      return [];
    });
  }

  /** Turns a switch that conditions ask for. */
  setSwitch(name: string, on: boolean, who: Named): Promise<ChangeAnswer> {
    return this.#transactions.change(`switch ${name} is now ${on ? 'on' : 'off'}`, who, 'may', () => {
      const known = this.configuration.switches.map((candidate) => candidate.name);
      if (!known.includes(name)) throw new ChangeRefused(`there is no switch "${name}"; there are: ${known.join(', ') || 'none'}`, 'name');
      this.conditions.turn(this.configuration, name, on);
    });
  }

  /** Swaps policies if conditions say so, and looks again at the very instant if time alone will say so before upkeep does. */
  async #followConditions(): Promise<void> {
    if (this.#due !== null) clearTimeout(this.#due);
    const nowMs = this.conditions.clock.now();
    this.conditions.look(this.configuration, this.#sampler.sample(this.configuration, this.program, this.ids, this.runner.counters(), nowMs, (service) => this.placement.balancer.reported(service, (key) => this.stateOf(key) === 'up')));
    await this.#transactions.queue(async () => {
      const cause = this.conditions.pending;
      if (cause !== null) await this.#transactions.swap(`policies switch: ${cause}`, WEIR, 'may', () => []);
    });
    const waitMs = this.conditions.dueMs - this.conditions.clock.now();
    if (waitMs < UPKEEP_MS && this.#upkeep !== null) this.#due = setTimeout(() => void this.#followConditions().catch(() => undefined), Math.max(1, waitMs)).unref();
  }

  /** Tells which named configuration came into force with what was just installed. */
  #told(who: Named): void {
    this.placement.groups?.follow(this.configuration.services);
    for (const event of this.conditions.installed()) this.events.emit(event, who);
  }

  /** What has to be looked at from time to time: neighbours, empty paths, drained instances. */
  async upkeep(nowMs = Date.now()): Promise<void> {
    try {
      const counters = this.runner.counters();
      this.#watch.counters(counters, nowMs);
      this.#watch.attached(counters, nowMs);
      this.#watch.links(this.configuration, { interfaces: [...this.surroundings.host.interfaces, ...attachmentsIn(this.surroundings).interfaces] });
      if (this.surroundings.host.refresh?.() === true) await this.#transactions.change('this host changed', WEIR, 'no', () => []);
      await this.#transactions.queue(() => {
        attachmentsIn(this.surroundings).release(this.whole);
        return this.#openings.openPorts();
      });
      const moved = this.surroundings.neighbours.refresh(destinationsOf(this.whole));
      if (attachmentsIn(this.surroundings).refresh(this.whole) || moved) await this.#transactions.change('neighbours changed', WEIR, 'no', () => []);
      this.#watch.neighbours(this.configuration, this.surroundings.neighbours, (key) => this.stateOf(key));
      const ways = this.#pathMtus.look(this.runner.signals(), this.program, (id) => this.ids.instances.name(id) ?? `#${id}`, nowMs);
      if (ways.length > 0) await this.#transactions.change(waySummary(ways), WEIR, 'no', () => ways.filter(({ told }) => told).map(({ instance, cause }) => ({ kind: 'instance', cause, instance, state: this.stateOf(instance) })));

      const streamsOn = new Map(counters.paths.map((path) => [path.id, path.streams]));
      await this.#free((path) => streamsOn.get(path) ?? 0, nowMs);

      const streamsAt = new Map(counters.instances.map((row) => [row.id, row.streams]));
      for (const [key, deadlineMs] of this.#desired.draining()) {
        const empty = (streamsAt.get(this.ids.instances.id(key)) ?? 0) === 0;
        if (!empty && (deadlineMs === null || nowMs < deadlineMs)) continue;
        const [service = '', instance = ''] = key.split('/');
        await this.setInstance(service, instance, 'down', null, WEIR, empty ? 'drained' : 'deadline');
      }
      await this.#placeByLoad();
      await this.scaler.look(withoutMembers(this.configuration).services);
      if (!same([...this.#desired.failing].sort(), [...this.health.down].sort())) await this.#followHealth([]);
      if (this.configuration.configurations.length > 0) await this.#followConditions();
    } catch (error) {
      this.log.warn({ error: (error as Error).message }, 'upkeep failed; it is tried again');
    }
  }

  /** Paths that no stream is on any more, and what was only there for them. */
  #free(streamsOn: (path: number) => number, nowMs: number): Promise<void> {
    return this.#transactions.queue(async () => {
      const undo = this.#desired.begin(false);
      const { words } = this.#desired.sweep(streamsOn, nowMs);
      undo();
      if (words.length === 0) return;
      await this.#transactions.swap(words.join('; '), WEIR, 'no', () =>
        this.#desired.sweep(streamsOn, nowMs).paths.map(({ path, chain }) => ({ kind: 'path', cause: 'no stream left', path, chain }) as const),
      );
    });
  }

  async stop(): Promise<void> {
    if (this.#upkeep !== null) clearInterval(this.#upkeep);
    if (this.#due !== null) clearTimeout(this.#due);
    this.#upkeep = null;
    this.health.stop();
    this.scaler.stop();
    await this.#transactions.settled();
    await this.runner.stop();
  }
}
