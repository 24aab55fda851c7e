/**
 * A manager: takes the appliance's document, hears how its members are, and tells each its part. Of several managers the first that lives
 * leads; the others keep its state and follow the same reports, so that one of them can go on.
 */
import type { PlainDocument } from '../config/configuration.js';
import { DocumentRefused, ChangeRefused } from '../config/refused.js';
import { same } from '../config/share.js';
import type { Logger } from '../observe/log.js';
import { checkApplianceDocument, type ApplianceConfig } from './document.js';
import { MOST_MANAGERS } from './schema.js';
import { NO_PRESSURE, press, chooseUnits, type Pressure } from './layout.js';
import type { Message } from './channel.js';
import { isNewer, NO_EDITION, readReport, type DispatcherReport, type Edition, type ManagerReport, type ManagerState, type UnitReport } from './messages.js';
import { dispatcherPart, unitPart } from './parts.js';
import { AT_FIRST, newest, stable, step, unitsIn, type Facts, type Rollout } from './rollout.js';
import { Starter } from './starter.js';
import { statusOf, type ApplianceStatus } from './status.js';

/** A manager that has not been heard of for so long does not lead. */
export const MANAGER_SILENT_MS = 1000;
/** After the start: how long the other managers have to say what was done without this one, while members know nothing newer, and if they do. */
const SETTLE_MS = 10_000;
const STALE_MS = 30_000;
/** Of a member that speaks the truth: managers take over every few seconds at most. */
const MOST_TERMS_AHEAD = 1_000_000;
/** After taking over: how long members have to say that they are there. */
const GRACE_MS = 3000;
const THRESHOLDS_EVERY_MS = 1000;

/** One connection of a member, as the manager sees it. */
export interface Peer {
  /** As the kernel says where it comes from. */
  readonly address: string;
  send(message: Message): void;
  /** Says why, and ends the connection. */
  refuse(why: string): void;
}

export interface Heard<R> {
  readonly report: R;
  readonly atMs: number;
  readonly peer: Peer;
}

export interface ManagerOptions {
  readonly name: string;
  readonly now: () => number;
  /** Keeps the state; fulfilled when it is kept. */
  readonly keep: (state: ManagerState) => Promise<void>;
  readonly log: Logger;
  /** Addresses and ports of the other managers, whenever they change. */
  readonly others?: (managers: ApplianceConfig['managers']) => void;
}

export interface Applied {
  readonly changes: readonly string[];
  readonly dry_run: boolean;
}

export class Manager {
  #state: ManagerState | null = null;
  #appliance: ApplianceConfig | null = null;
  readonly #units = new Map<string, Heard<UnitReport>>();
  readonly #dispatchers = new Map<string, Heard<DispatcherReport>>();
  readonly #managers = new Map<string, Heard<ManagerReport>>();
  /** Of members that are connected: what each was told last. */
  readonly #given = new Map<Peer, Edition>();
  readonly #starter: Starter;
  #startedMs: number;
  /** The term in which this one leads; null: it does not. */
  #term: number | null = null;
  #ledMs = 0;
  #changedMs = 0;
  #tickMs: number;
  #pressure: Pressure = NO_PRESSURE;
  #pressedMs = 0;

  constructor(private readonly options: ManagerOptions) {
    this.#startedMs = this.#tickMs = options.now();
    this.#starter = new Starter(options.now, options.log);
  }

  /** With the state of the last run, or what another manager has. */
  begin(state: ManagerState): void {
    this.#adopt(state);
  }

  get appliance(): ApplianceConfig | null {
    return this.#appliance;
  }
  get rollout(): Rollout {
    return this.#state?.rollout ?? AT_FIRST;
  }
  get count(): number {
    return this.#state?.count ?? 0;
  }
  get edition(): Edition {
    const { term, revision } = this.rollout;
    return this.#state === null ? NO_EDITION : { term, revision };
  }
  get leads(): boolean {
    return this.#term !== null;
  }
  get name(): string {
    return this.options.name;
  }
  get units(): ReadonlyMap<string, Heard<UnitReport>> {
    return this.#units;
  }
  get dispatchers(): ReadonlyMap<string, Heard<DispatcherReport>> {
    return this.#dispatchers;
  }
  get starter(): Starter {
    return this.#starter;
  }

  /** Milliseconds since something was heard of it; counted from when there was somebody to listen. */
  silentMs(heard: { readonly atMs: number } | undefined): number {
    return Math.max(0, this.options.now() - (heard?.atMs ?? Math.max(this.#startedMs, this.#ledMs) + GRACE_MS));
  }

  /** Which manager leads; null: none is known to live. */
  get leader(): string | null {
    const lives = (name: string): boolean => name === this.name || this.options.now() - (this.#managers.get(name)?.atMs ?? -Infinity) < MANAGER_SILENT_MS;
    return this.#appliance?.managers.find(({ name }) => lives(name))?.name ?? null;
  }

  status(): ApplianceStatus | null {
    return this.#appliance === null ? null : statusOf(this, this.#appliance);
  }

  /** Own state, for another manager. */
  report(withState: boolean): ManagerReport {
    return { type: 'manager', name: this.name, ...this.edition, state: withState ? this.#state : null };
  }

  // --- what members say

  received(message: Message, peer: Peer): void {
    const read = readReport(message);
    if ('wrong' in read) return peer.refuse(read.wrong);
    const { report } = read;
    if (report.type === 'manager') return this.#hearManager(report, peer);
    if (this.#appliance === null) return; // it may come
    if (report.term > this.rollout.term + MOST_TERMS_AHEAD) return peer.refuse(`it has been told something by a manager of term ${report.term}, and this one knows of ${this.rollout.term}`);
    const why = report.type === 'unit' ? this.#wrongUnit(report, peer) : this.#wrongDispatcher(report, peer);
    if (why !== null) return peer.refuse(why);
    const atMs = this.options.now();
    if (report.type === 'unit') this.#units.set(report.name, { report, atMs, peer });
    else this.#dispatchers.set(report.name, { report, atMs, peer });
    this.#tell(peer, report.type, report.name);
  }

  /** Its connection is over. */
  gone(peer: Peer): void {
    this.#given.delete(peer);
  }

  #hearManager(report: ManagerReport, peer: Peer): void {
    if (report.name === this.name) return peer.refuse(`it is manager "${this.name}" itself, or two managers have that name`);
    if (this.#appliance !== null && !this.#appliance.managers.some(({ name }) => name === report.name)) return peer.refuse(`the document of ${this.#appliance.name} has no manager "${report.name}"`);
    this.#managers.set(report.name, { report: { ...report, state: null }, atMs: this.options.now(), peer });
    if (report.state !== null && isNewer(report.state.rollout, this.edition)) this.#adopt(report.state);
  }

  #adopt(state: ManagerState): void {
    const checked = checkApplianceDocument(state.document);
    if (!checked.ok) return this.options.log.error('another manager has a document that this one does not take: are they of one version?');
    this.#appliance = checked.appliance;
    this.#save(state);
    this.options.others?.(checked.appliance.managers.filter(({ name }) => name !== this.name));
  }

  #wrongUnit({ name, service, address, session }: UnitReport, peer: Peer): string | null {
    const appliance = this.#appliance as ApplianceConfig;
    const place = this.#placeOf(name);
    if (place === null) return `the document of ${appliance.name} has no unit "${name}"; it has: ${appliance.units.map((unit) => unit.name).join(', ')}`;
    if (service !== appliance.service) return `unit "${name}" performs ${service}, and ${appliance.name} is for ${appliance.service}`;
    if (address !== place) return `unit "${name}" is at ${address}, and the document says ${place}`;
    if (peer.address !== address) return `unit "${name}" says that it is at ${address}, and speaks from ${peer.address}`;
    return this.#twice(this.#units.get(name), peer, session !== this.#units.get(name)?.report.session, `unit "${name}"`);
  }

  #wrongDispatcher({ name, addresses, fingerprint }: DispatcherReport, peer: Peer): string | null {
    const appliance = this.#appliance as ApplianceConfig;
    const place = appliance.dispatchers.find((one) => one.name === name);
    if (place === undefined) return `the document of ${appliance.name} has no dispatcher "${name}"; it has: ${appliance.dispatchers.map((one) => one.name).join(', ')}`;
    if (!addresses.includes(place.address)) return `dispatcher "${name}" is at ${addresses.join(', ')} on its underlay, and the document says ${place.address}`;
    // The first of the document that lives is right.
    const other = appliance.dispatchers.map((one) => this.#dispatchers.get(one.name)).find((heard) => heard !== undefined && heard.report.name !== name && this.silentMs(heard) < appliance.layout.leaseMs);
    if (other !== undefined && other.report.fingerprint !== fingerprint) return `dispatcher "${name}" has another affinity key than "${other.report.name}", so they would choose different units for one stream: give all of them the same file under affinity_key`;
    return this.#twice(this.#dispatchers.get(name), peer, true, `dispatcher "${name}"`);
  }

  #twice(heard: Heard<unknown> | undefined, peer: Peer, differs: boolean, who: string): string | null {
    if (heard === undefined || heard.peer === peer || !differs || this.silentMs(heard) >= (this.#appliance?.layout.leaseMs ?? 0)) return null;
    return this.#given.has(heard.peer) ? `${who} is connected already, from ${heard.peer.address}: are there two of that name?` : null;
  }

  /** Of the document, or where it was when it was in it; null: it is not known. */
  #placeOf(unit: string): string | null {
    return this.#appliance?.units.find(({ name }) => name === unit)?.address ?? (unitsIn(this.rollout).includes(unit) ? (this.#state?.places[unit] ?? null) : null);
  }

  // --- what people want

  /** Puts a document in force. Throws a ChangeRefused, and has changed nothing then. */
  async apply(document: PlainDocument, dryRun: boolean): Promise<Applied> {
    this.#mustLead();
    const checked = checkApplianceDocument(document);
    if (!checked.ok) throw new DocumentRefused(checked.errors);
    const { appliance } = checked;
    if (!appliance.managers.some(({ name }) => name === this.name)) throw new ChangeRefused(`this manager is "${this.name}", and the document has: ${appliance.managers.map(({ name }) => name).join(', ')}`, 'appliance.managers');
    const before = this.#appliance;
    if (before !== null) this.#refuseMoves(before, appliance);
    const changes = changesBetween(before, appliance);
    if (dryRun || changes.length === 0) return { changes, dry_run: dryRun };
    const { min, max, start } = appliance.layout;
    const count = this.#state === null ? start : Math.min(max, Math.max(min, this.#state.count));
    this.#appliance = appliance;
    await this.#save({ document, count, rollout: { ...this.rollout, revision: this.rollout.revision + 1 }, places: this.#places() });
    this.options.others?.(appliance.managers.filter(({ name }) => name !== this.name));
    this.tick();
    return { changes, dry_run: false };
  }

  /** Has so many units serve. Throws a ChangeRefused. */
  async scale(count: number, why = 'asked for'): Promise<{ readonly units: number; readonly before: number }> {
    this.#mustLead();
    const appliance = this.#appliance;
    if (appliance === null || this.#state === null) throw new ChangeRefused('there is no appliance yet: `weir appliance apply FILE` first', 'units');
    const { min, max } = appliance.layout;
    if (count < min || count > max) throw new ChangeRefused(`expected ${min} to ${max} units, as the layout says, found ${count}`, 'units');
    const before = this.#state.count;
    if (count !== before) {
      this.options.log.info(`${count} units instead of ${before}: ${why}`);
      // A revision of its own: other managers take what is newer.
      await this.#save({ ...this.#state, count, rollout: { ...this.rollout, revision: this.rollout.revision + 1 } });
      this.tick();
    }
    return { units: count, before };
  }

  #mustLead(): void {
    const { leader } = this;
    if (this.#appliance !== null && !this.leads) throw new ChangeRefused(leader === this.name ? 'this manager takes the lead at this moment: ask again' : `manager "${leader ?? 'unknown'}" leads: ask there`, 'manager');
  }

  #refuseMoves(before: ApplianceConfig, after: ApplianceConfig): void {
    for (const key of ['name', 'service', 'function'] as const) if (before[key] !== after[key]) throw new ChangeRefused(`the ${key} of an appliance that runs stays as it is (${before[key]}): end its manager and units, and begin with an empty state directory`, `appliance.${key}`);
    const used = new Set(unitsIn(this.rollout));
    after.units.forEach(({ name, address }, i) => {
      const place = this.#placeOf(name);
      if (used.has(name) && place !== null && place !== address) throw new ChangeRefused(`unit "${name}" is in use at ${place}: take it out first, or give the one at ${address} another name`, `appliance.units[${i}].address`);
    });
  }

  #places(): ManagerState['places'] {
    const known = { ...this.#state?.places, ...Object.fromEntries((this.#appliance?.units ?? []).map(({ name, address }) => [name, address])) };
    const used = new Set([...unitsIn(this.rollout), ...(this.#appliance?.units ?? []).map(({ name }) => name)]);
    return Object.fromEntries(Object.entries(known).filter(([name]) => used.has(name)));
  }

  #save(state: ManagerState): Promise<void> {
    this.#state = state;
    return this.options.keep(state).catch((error: unknown) => this.options.log.error(`the state could not be kept: ${(error as Error).message}`));
  }

  // --- what happens by itself

  /** Has to be called every few ten milliseconds. */
  tick(): void {
    const now = this.options.now();
    const appliance = this.#appliance;
    // This process did not run: nobody is silent for that.
    const away = now - this.#tickMs;
    this.#tickMs = now;
    if (appliance === null) return;
    if (away > appliance.layout.leaseMs / 2) {
      later(this.#units, away);
      later(this.#dispatchers, away);
    }
    if (away > MANAGER_SILENT_MS && appliance.managers.length > 1) {
      // Another one may have led meanwhile.
      this.#startedMs = now;
      this.#term = null;
      this.#managers.clear();
    }
    this.#lead(appliance, now);
    if (!this.leads) return;
    this.#starter.follow(appliance, this.#chosen(appliance), (unit) => this.#runs(unit, appliance));
    for (;;) {
      const before = this.rollout;
      const { rollout, what } = step(before, this.#facts(appliance, now));
      if (rollout === before) break;
      this.#changedMs = now;
      this.options.log.info({ revision: rollout.revision }, what);
      for (const unit of unitsIn(before)) if (!unitsIn(rollout).includes(unit)) this.#starter.end(appliance, unit, this.#placeOf(unit) ?? '');
      void this.#save({ ...(this.#state as ManagerState), rollout, places: this.#places() });
    }
    this.#follow(appliance, now);
    for (const [name, { peer }] of this.#units) if (this.#given.has(peer)) this.#tell(peer, 'unit', name);
    for (const [name, { peer }] of this.#dispatchers) if (this.#given.has(peer)) this.#tell(peer, 'dispatcher', name);
  }

  #lead({ managers }: ApplianceConfig, now: number): void {
    const leads = this.leader === this.name && (this.leads || this.#knowsAll(managers, now));
    if (!leads) {
      if (this.leads) this.options.log.info(`manager "${this.leader ?? 'unknown'}" leads now`);
      this.#term = null;
      return;
    }
    if (this.#term === this.rollout.term && this.#term !== 0) return;
    const known = Math.max(this.rollout.term, this.#newestOfMembers().term);
    // No other manager can come to the same one.
    const term = (Math.floor(known / MOST_MANAGERS) + 1) * MOST_MANAGERS + managers.findIndex(({ name }) => name === this.name);
    this.#term = term;
    this.#ledMs = now;
    this.#changedMs = now;
    this.options.log.info({ term }, `manager "${this.name}" leads`);
    // Times of another process say nothing here.
    const leaving = Object.fromEntries(Object.keys(this.rollout.leaving).map((unit) => [unit, now]));
    void this.#save({ ...(this.#state as ManagerState), rollout: { ...this.rollout, term, leaving } });
  }

  /** Whether nothing that was done without this one can be unknown to it; after a while that has to do. */
  #knowsAll(managers: ApplianceConfig['managers'], now: number): boolean {
    const sinceMs = now - this.#startedMs;
    if (managers.length === 1 || sinceMs >= STALE_MS) return true;
    if (isNewer(this.#newestOfMembers(), this.edition)) return false;
    return sinceMs >= SETTLE_MS || managers.every(({ name }) => name === this.name || this.#managers.has(name));
  }

  /** What members were told last, by whichever manager. */
  #newestOfMembers(): Edition {
    let newestSoFar = NO_EDITION;
    for (const { report } of [...this.#units.values(), ...this.#dispatchers.values()]) if (isNewer(report, newestSoFar)) newestSoFar = report;
    return newestSoFar;
  }

  /** Heard of lately; one that serves is also given the time to say so. */
  #runs(name: string, { layout }: ApplianceConfig): boolean {
    const heard = this.#units.get(name);
    const serves = newest(this.rollout)?.members.some(([unit]) => unit === name) === true;
    return (heard !== undefined || serves) && this.silentMs(heard) <= layout.leaseMs;
  }

  /** Those that are to serve, whether they run or not. */
  #chosen(appliance: ApplianceConfig): string[] {
    const { units, layout } = appliance;
    const current = new Set(newest(this.rollout)?.members.map(([name]) => name) ?? []);
    return chooseUnits({ units, count: this.count, layout, current, usable: ({ name }) => this.#runs(name, appliance) || (layout.add !== null && !this.#starter.failed(name)) });
  }

  #facts(appliance: ApplianceConfig, nowMs: number): Facts {
    const edition = this.edition;
    const { layout } = appliance;
    const isCurrent = (report: Edition): boolean => report.term === edition.term && report.revision === edition.revision;
    const units = new Map([...unitsIn(this.rollout)].map((name) => [name, { silentMs: this.silentMs(undefined), current: false, streams: 0, needs: new Map<number, number>() }]));
    for (const [name, heard] of this.#units) {
      const needs = new Map<number, number>();
      for (let i = 0; i + 1 < heard.report.needs.length; i += 2) needs.set(heard.report.needs[i] ?? 0, heard.report.needs[i + 1] ?? 0);
      units.set(name, { silentMs: this.silentMs(heard), current: isCurrent(heard.report), streams: heard.report.streams, needs });
    }
    const dispatchers = new Map([...this.#dispatchers].map(([name, heard]) => [name, { silentMs: this.silentMs(heard), current: isCurrent(heard.report) }]));
    const weights = new Map(appliance.units.map(({ name, weight }) => [name, weight]));
    const wanted = this.#chosen(appliance).filter((name) => this.#runs(name, appliance)).map((name) => [name, weights.get(name) ?? 1] as const);
    return { nowMs, leaseMs: layout.leaseMs, drainMs: layout.drainMs, units, dispatchers, wanted, changedMs: this.#changedMs };
  }

  /** The number of units follows the load. */
  #follow({ layout }: ApplianceConfig, now: number): void {
    const { thresholds, min, max } = layout;
    if (thresholds === null || now - this.#pressedMs < THRESHOLDS_EVERY_MS || !stable(this.rollout)) return;
    this.#pressedMs = now;
    const serving = (newest(this.rollout)?.members ?? []).map(([name]) => this.#units.get(name)?.report);
    const values = serving.map((report) => (report === undefined ? null : thresholds.metric === 'cpu' ? report.cpu : thresholds.metric === 'streams' ? report.streams : report.packetsPerSecond));
    const known = values.filter((value) => value !== null);
    const mean = known.length < values.length || known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
    const { pressure, change } = press(this.#pressure, thresholds, mean, serving.length, now);
    this.#pressure = pressure;
    const count = Math.min(max, Math.max(min, this.count + change));
    if (change !== 0 && count !== this.count) void this.scale(count, `${thresholds.metric} is ${mean?.toFixed(1) ?? 'unknown'} at ${serving.length} units`);
  }

  /** Its part, if it has another one. */
  #tell(peer: Peer, kind: 'unit' | 'dispatcher', name: string): void {
    const appliance = this.#appliance;
    const { edition } = this;
    const given = this.#given.get(peer);
    if (appliance === null || !this.leads || (given !== undefined && !isNewer(edition, given))) {
      if (given === undefined) this.#given.set(peer, NO_EDITION);
      return;
    }
    this.#given.set(peer, edition);
    const placeOf = (unit: string): string => this.#placeOf(unit) ?? '';
    const part = kind === 'unit' ? unitPart(appliance, this.rollout, name, placeOf) : dispatcherPart(appliance, this.rollout, placeOf);
    peer.send(part as unknown as Message);
  }
}

function later<R>(heard: Map<string, Heard<R>>, ms: number): void {
  for (const [name, one] of heard) heard.set(name, { ...one, atMs: one.atMs + ms });
}

/** One sentence each. */
function changesBetween(before: ApplianceConfig | null, after: ApplianceConfig): string[] {
  if (before === null) return [`appliance ${after.name}: ${after.layout.start} of ${after.units.length} units for ${after.service}, ${after.dispatchers.length} dispatchers, ${after.managers.length} managers`];
  const changes: string[] = [];
  for (const kind of ['managers', 'dispatchers', 'units'] as const) {
    const old = new Map<string, unknown>(before[kind].map((one) => [one.name, one]));
    for (const one of after[kind]) {
      if (!old.has(one.name)) changes.push(`${kind.slice(0, -1)} ${one.name} is new`);
      else if (!same(old.get(one.name), one)) changes.push(`${kind.slice(0, -1)} ${one.name} is changed`);
      old.delete(one.name);
    }
    for (const name of old.keys()) changes.push(`${kind.slice(0, -1)} ${name} is gone`);
  }
  if (!same(before.settings, after.settings)) changes.push('settings are changed');
  if (!same(before.layout, after.layout)) changes.push('the layout is changed');
  return changes;
}
