/**
 * The health of every instance that has `health:`: runs the checks, reads what native code knows of probes and traffic, and tells
 * what changed, all that comes together in one call.
 */
import type { Clock } from '../conditions/clock.js';
import type { HealthConfig, ServiceConfig } from '../config/configuration.js';
import { same } from '../config/share.js';
import { instanceKey } from '../program/compile.js';
import { ActiveCheck } from './active.js';
import { PassiveWatch, type Signals } from './passive.js';
import { readProbes, readSignals, type ProbeCounts } from './rows.js';
import { Slots } from './slots.js';
import { failed, observe, trusted, unchecked, type HealthState, type Observation } from './state.js';

/** Sockets of all checks together. */
const MOST_SOCKETS = 512;
const LONGEST_LOOK_MS = 100;
const SHORTEST_LOOK_MS = 10;
/** An instance that failed in use and has no check is tried again after `recheck`, twice as long each time, up to this. */
const LONGEST_TRIAL_MS = 60_000;
/** A trial that went well for this long forgets those before it. */
const TRIAL_PASSED = 3;

export interface HealthChange {
  /** `service/name`. */
  readonly instance: string;
  readonly up: boolean;
  readonly cause: string;
}

/** What is read of native code; null: it does not run yet. */
export interface HealthFacts {
  readonly signals: () => Float64Array | null;
  readonly probes: () => Float64Array | null;
  readonly idOf: (key: string) => number;
  readonly hasNeighbour: (address: string) => boolean;
}

export interface HealthView {
  readonly check: string;
  readonly state: 'up' | 'down' | 'unchecked';
  readonly since: string;
  readonly cause: string;
  /** Of the last answer. */
  readonly latencyMs: number | null;
  readonly probes: { readonly sent: number; readonly answered: number; readonly refused: number; readonly late: number } | null;
}

interface Entry {
  readonly key: string;
  readonly service: string;
  /** Null: an attached instance without one, which only traffic can speak for. */
  readonly address: string | null;
  readonly settings: HealthConfig;
  state: HealthState;
  active: ActiveCheck | null;
  readonly passive: PassiveWatch;
  /** Answered probes at the moment that something else spoke against the instance: only later ones count. */
  answeredBefore: number;
  trialMs: number;
  trialAtMs: number | null;
}

export class HealthMonitor {
  readonly #entries = new Map<string, Entry>();
  readonly #slots = new Slots(MOST_SOCKETS);
  #timer: NodeJS.Timeout | null = null;
  #changes: HealthChange[] = [];
  #soon = false;
  #started = false;
  #everyMs = 0;
  #probes: ReadonlyMap<number, ProbeCounts> = new Map();

  constructor(
    private readonly clock: Clock,
    private readonly facts: HealthFacts,
    private readonly changed: (changes: readonly HealthChange[]) => void,
  ) {}

  /** Follows the configuration. Checks that stay what they are go on; what comes after the start has to answer before it counts as up. */
  configure(services: readonly ServiceConfig[]): void {
    const wanted = services.flatMap((service) => (service.health === null ? [] : service.instances.map((instance) => ({ service, instance, health: service.health as HealthConfig }))));
    const keys = new Set<string>();
    wanted.forEach(({ service, instance, health }, i) => {
      const key = instanceKey(service.name, instance.name);
      keys.add(key);
      const known = this.#entries.get(key);
      if (known !== undefined && known.address === instance.address && same(known.settings, health)) return;
      known?.active?.stop();
      // Other settings about the same place: it stays what it was until they say otherwise.
      const keeps = known !== undefined && known.address === instance.address;
      const state = keeps ? known.state : unchecked(!this.#started || health.check === null, this.clock.now());
      const entry: Entry = { key, service: service.name, address: instance.address, settings: health, state, active: null, passive: new PassiveWatch(), answeredBefore: 0, trialMs: health.passive?.recheckMs ?? 0, trialAtMs: null };
      this.#entries.set(key, entry);
      if (health.check !== null && health.check.kind !== 'probe' && instance.address !== null) entry.active = new ActiveCheck(health.check, instance.address, health, this.#slots, (seen) => this.#observe(entry, seen), i / wanted.length);
    });
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      entry.active?.stop();
      this.#entries.delete(key);
    }
    this.#started = true;
    this.#arm();
  }

  stop(): void {
    for (const entry of this.#entries.values()) entry.active?.stop();
    this.#entries.clear();
    this.#arm();
  }

  /** Keys of the instances that are down by their health. */
  get down(): ReadonlySet<string> {
    return new Set([...this.#entries.values()].filter(({ state }) => !state.up).map(({ key }) => key));
  }

  /** What native code has news of: an instance answered, or stopped answering, often enough. */
  news(): void {
    this.refresh();
    for (const entry of this.#entries.values()) {
      if (entry.settings.check?.kind !== 'probe') continue;
      const counts = this.#probes.get(this.facts.idOf(entry.key));
      if (counts === undefined) continue;
      const answered = Math.min(counts.answeredInARow, counts.answered - entry.answeredBefore);
      const cause = entry.address !== null && this.facts.hasNeighbour(entry.address) ? `probe: no answer within ${entry.settings.timeoutMs} ms` : 'probe: no neighbour entry';
      this.#observe(entry, { answered, missed: counts.lostInARow, cause, latencyMs: counts.answered > 0 ? counts.latencyMs : null });
    }
  }

  /** Reads what native code counted of probes. */
  refresh(): void {
    const rows = this.facts.probes();
    if (rows !== null) this.#probes = readProbes(rows);
  }

  /** Looks at what traffic says, and at trials that are due. Called by a timer while there is reason to. */
  look(): void {
    const nowMs = this.clock.now();
    const rows = this.facts.signals();
    const signals: ReadonlyMap<number, Signals> = rows === null ? new Map() : readSignals(rows);
    for (const entry of this.#entries.values()) {
      const { passive } = entry.settings;
      if (passive === null) continue;
      if (entry.trialAtMs !== null && nowMs >= entry.trialAtMs && !entry.state.up) {
        entry.trialAtMs = null;
        entry.passive.forget();
        this.#set(entry, trusted(entry.state, 'on trial again', nowMs));
      }
      const now = signals.get(this.facts.idOf(entry.key));
      const cause = now === undefined || !entry.state.up ? null : entry.passive.look(now, passive, nowMs);
      if (cause !== null) this.#fail(entry, cause, nowMs);
    }
    if ([...this.#entries.values()].some(({ settings, state }) => settings.check?.kind === 'probe' && !state.up)) this.news();
  }

  #fail(entry: Entry, cause: string, nowMs: number): void {
    entry.active?.forget();
    entry.answeredBefore = this.#probes.get(this.facts.idOf(entry.key))?.answered ?? 0;
    entry.passive.forget();
    if (entry.settings.check === null) {
      const passed = nowMs - entry.state.sinceMs > TRIAL_PASSED * entry.trialMs;
      entry.trialMs = passed ? (entry.settings.passive?.recheckMs ?? 0) : entry.trialMs;
      entry.trialAtMs = nowMs + entry.trialMs;
      entry.trialMs = Math.min(entry.trialMs * 2, Math.max(LONGEST_TRIAL_MS, entry.settings.passive?.recheckMs ?? 0));
    } else if (entry.settings.check.kind === 'probe') {
      this.news();
      entry.answeredBefore = this.#probes.get(this.facts.idOf(entry.key))?.answered ?? 0;
    }
    this.#set(entry, failed(entry.state, cause, nowMs));
  }

  #observe(entry: Entry, seen: Observation): void {
    if (this.#entries.get(entry.key) !== entry) return;
    this.#set(entry, observe(entry.state, seen, entry.settings, this.clock.now()));
  }

  #set(entry: Entry, state: HealthState): void {
    const was = entry.state;
    entry.state = state;
    if (was.up !== state.up) {
      if (state.up) entry.passive.forget();
      this.#changes.push({ instance: entry.key, up: state.up, cause: state.cause });
      this.#tell();
    }
    if (was.up && !state.up) this.#releaseLast(entry.service);
    if (!was.held && state.held) this.#releaseLast(entry.service);
    this.#arm();
  }

  /** Where no instance of a service is up, those that are only held down for their past are better than none. */
  #releaseLast(service: string): void {
    const own = [...this.#entries.values()].filter((entry) => entry.service === service);
    if (own.some(({ state }) => state.up)) return;
    for (const entry of own) if (entry.state.held) this.#set(entry, trusted(entry.state, 'answers; no other instance is up', this.clock.now()));
  }

  /** Once for everything that this turn of the event loop finds. */
  #tell(): void {
    if (this.#soon) return;
    this.#soon = true;
    setImmediate(() => {
      this.#soon = false;
      const changes = this.#changes;
      this.#changes = [];
      // What went down and came up again meanwhile is where it was, but that it happened is told.
      if (changes.length > 0) this.changed(changes);
    });
  }

  /** A timer only while something has to be looked at: traffic, or probes of an instance that is down. */
  #arm(): void {
    const looked = [...this.#entries.values()].filter(({ settings, state }) => settings.passive !== null || (settings.check?.kind === 'probe' && !state.up));
    if (looked.length === 0) {
      if (this.#timer !== null) clearInterval(this.#timer);
      this.#timer = null;
      this.#everyMs = 0;
      return;
    }
    const everyMs = Math.max(SHORTEST_LOOK_MS, Math.min(LONGEST_LOOK_MS, ...looked.map(({ settings }) => settings.intervalMs)));
    if (everyMs === this.#everyMs) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#everyMs = everyMs;
    this.#timer = setInterval(() => this.look(), everyMs).unref();
  }

  /** Of one instance; refresh() first for the latest figures of probes. */
  view(key: string): HealthView | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    const { state, settings } = entry;
    const counts = settings.check?.kind === 'probe' ? this.#probes.get(this.facts.idOf(key)) : undefined;
    return {
      check: describeHealth(settings),
      state: !state.checked && settings.check !== null && state.up ? 'unchecked' : state.up ? 'up' : 'down',
      since: new Date(state.sinceMs).toISOString(),
      cause: state.cause,
      latencyMs: counts !== undefined && counts.answered > 0 ? counts.latencyMs : state.latencyMs,
      probes: counts === undefined ? null : { sent: counts.sent, answered: counts.answered, refused: counts.refused, late: counts.late },
    };
  }
}

/** `tcp 8080 each 500 ms`. */
export function describeHealth({ check, passive, intervalMs }: HealthConfig): string {
  const active = check === null ? [] : [`${check.kind === 'probe' ? 'probe' : check.kind === 'tcp' ? `tcp ${check.port}` : `http ${check.port}${check.path}`} each ${intervalMs} ms`];
  return [...active, ...(passive === null ? [] : ['passive'])].join(', ');
}
