/**
 * What instances say of their load, by their reports or by somebody who collected it. A report counts only if it comes from the
 * instance's own address, is newer than the one before, and makes sense; the others are counted, and each kind is told once.
 */
import type { Clock } from '../conditions/clock.js';
import type { ServiceConfig } from '../config/configuration.js';
import { canonical } from '../config/address.js';
import { instanceKey } from '../program/compile.js';
import { absurdity, decodeReport, type LoadReport, type LoadValues } from './report.js';

/** Clocks may differ by this much; a report that was recorded can be played back no longer than this. */
const MOST_SKEW_MS = 30_000;
/** After this many intervals without a report an instance's load is unknown. */
const STALE_AFTER = 3;
/** Reports that one address may send at once, and in a second. */
const BURST = 30;
const PER_SECOND = 20;
/** How long what a control client set holds, unless it says otherwise. */
export const SET_FOR_MS = 10_000;
const MINUTE_MS = 60_000;
const MOST_FAULTS = 256;

export const FAULTS = ['malformed', 'forged', 'absurd', 'stale', 'replayed', 'wrong_instance', 'two_at_once', 'too_many', 'unknown_sender'] as const;
export type Fault = (typeof FAULTS)[number];

export interface Load extends LoadValues {
  readonly source: 'report' | 'set';
  readonly ageMs: number;
}

export interface LoadView {
  /** Null: none is known, or it is too old. */
  readonly load: Load | null;
  readonly stale: boolean;
  readonly accepted: number;
  /** Reports refused, by kind; only kinds that occurred. */
  readonly refused: Readonly<Partial<Record<Fault, number>>>;
  /** Why the last one was refused. */
  readonly lastRefused: string | null;
}

interface Account {
  readonly key: string;
  /** Where its reports come from; null: an attached instance without one. */
  readonly address: string | null;
  values: LoadValues | null;
  source: 'report' | 'set';
  atMs: number;
  validMs: number;
  last: { readonly session: bigint; readonly atMs: number; readonly sequence: number } | null;
  /** The session before the last one. */
  former: bigint | null;
  conflictUntilMs: number;
  accepted: number;
  refused: Partial<Record<Fault, number>>;
  lastRefused: string | null;
  tokens: number;
  tokensMs: number;
}

export class LoadLedger {
  readonly #accounts = new Map<string, Account>();
  readonly #byAddress = new Map<string, Account>();
  readonly #told = new Map<string, number>();
  #strangers = 0;

  constructor(
    private readonly clock: Clock,
    /** Once for each kind of fault of an instance, then at most once a minute. */
    private readonly tell: (text: string, facts: { readonly instance: string | null; readonly fault: Fault; readonly from: string }) => void,
  ) {}

  configure(services: readonly ServiceConfig[]): void {
    const before = new Map(this.#accounts);
    this.#accounts.clear();
    this.#byAddress.clear();
    for (const service of services) {
      for (const { name, address } of service.instances) {
        const key = instanceKey(service.name, name);
        const known = before.get(key);
        const account: Account = known?.address === address ? known : { key, address, values: null, source: 'report', atMs: 0, validMs: 0, last: null, former: null, conflictUntilMs: 0, accepted: 0, refused: {}, lastRefused: null, tokens: BURST, tokensMs: this.clock.now() };
        this.#accounts.set(key, account);
        if (address !== null) this.#byAddress.set(address, account);
      }
    }
  }

  /** A datagram that came from an address. Never throws. */
  receive(datagram: Uint8Array, from: string, key: Uint8Array): void {
    const account = this.#byAddress.get(canonical(from));
    // Whoever is no instance costs nothing more than this.
    if (account === undefined) return this.#strange(from);
    if (!this.#admit(account)) return this.#refuse(account, 'too_many', `more than ${PER_SECOND} reports a second`);
    const report = decodeReport(datagram, key);
    if ('refused' in report) return this.#refuse(account, report.refused, report.why);
    const nowMs = this.clock.now();
    const claimed = instanceKey(report.service, report.name);
    if (claimed !== account.key) return this.#refuse(account, 'wrong_instance', `it says that it is ${claimed}, but that address is ${account.key}'s`);
    if (!this.#isNew(account, report, nowMs)) return;
    account.last = { session: report.session, atMs: report.atMs, sequence: report.sequence };
    account.accepted++;
    const { packetsPerSecond, bytesPerSecond, cpu, streams, queue } = report;
    this.#keep(account, { packetsPerSecond, bytesPerSecond, cpu, streams, queue }, 'report', nowMs, STALE_AFTER * report.intervalMs);
  }

  #isNew(account: Account, report: LoadReport, nowMs: number): boolean {
    const { last } = account;
    const offMs = report.atMs - nowMs;
    const refuse = (fault: Fault, why: string): boolean => {
      this.#refuse(account, fault, why);
      return false;
    };
    if (Math.abs(offMs) > MOST_SKEW_MS) return refuse('stale', `it is ${(Math.abs(offMs) / 1000).toFixed(0)} s ${offMs < 0 ? 'old' : 'ahead of our clock'}: is the clock of ${account.address} right?`);
    if (last !== null) {
      const older = report.atMs < last.atMs || (report.atMs === last.atMs && (report.session !== last.session || report.sequence <= last.sequence));
      if (older) return refuse('replayed', 'it is not newer than the one before');
      if (report.session === account.former) account.conflictUntilMs = nowMs + STALE_AFTER * report.intervalMs;
      if (report.session !== last.session) account.former = last.session;
    }
    if (nowMs < account.conflictUntilMs) {
      account.last = { session: report.session, atMs: report.atMs, sequence: report.sequence };
      account.values = null;
      return refuse('two_at_once', `two processes at ${account.address} report as ${account.key}: end one of them, or give it an address and name of its own`);
    }
    return true;
  }

  /** What somebody collected elsewhere. Returns what is wrong with it, or null. */
  set(key: string, values: LoadValues, validMs = SET_FOR_MS): string | null {
    const account = this.#accounts.get(key);
    if (account === undefined) return `there is no instance "${key}"`;
    const why = absurdity(values);
    if (why !== null) {
      this.#refuse(account, 'absurd', why);
      return why;
    }
    account.accepted++;
    this.#keep(account, values, 'set', this.clock.now(), validMs);
    return null;
  }

  /** Null: nothing is known, or no longer. */
  of(key: string): Load | null {
    const account = this.#accounts.get(key);
    const ageMs = account === undefined ? 0 : Math.max(0, this.clock.now() - account.atMs);
    if (account === undefined || account.values === null || ageMs > account.validMs) return null;
    return { ...account.values, source: account.source, ageMs };
  }

  view(key: string): LoadView {
    const account = this.#accounts.get(key);
    const load = this.of(key);
    return { load, stale: load === null && (account?.values ?? null) !== null, accepted: account?.accepted ?? 0, refused: account?.refused ?? {}, lastRefused: account?.lastRefused ?? null };
  }

  /** Reports from addresses of no instance. */
  get strangers(): number {
    return this.#strangers;
  }

  #keep(account: Account, values: LoadValues, source: 'report' | 'set', nowMs: number, validMs: number): void {
    account.values = values;
    account.source = source;
    account.atMs = nowMs;
    account.validMs = validMs;
  }

  #admit(account: Account): boolean {
    const nowMs = this.clock.now();
    account.tokens = Math.min(BURST, account.tokens + (Math.max(0, nowMs - account.tokensMs) * PER_SECOND) / 1000);
    account.tokensMs = nowMs;
    if (account.tokens < 1) return false;
    account.tokens--;
    return true;
  }

  #strange(from: string): void {
    this.#strangers++;
    this.#once('unknown_sender', null, from, `load reports come from ${from}, which is no instance's address: they are not looked at`);
  }

  #refuse(account: Account, fault: Fault, why: string): void {
    account.refused[fault] = (account.refused[fault] ?? 0) + 1;
    account.lastRefused = `${fault}: ${why}`;
    const from = account.address ?? 'nowhere';
    this.#once(fault, account.key, from, `a load report of ${account.key} from ${from} was refused (${fault}): ${why}`);
  }

  #once(fault: Fault, instance: string | null, from: string, text: string): void {
    const what = `${fault} ${instance ?? ''}`;
    const nowMs = this.clock.now();
    const lastMs = this.#told.get(what);
    if ((lastMs !== undefined && nowMs - lastMs < MINUTE_MS) || (lastMs === undefined && this.#told.size >= MOST_FAULTS)) return;
    this.#told.set(what, nowMs);
    this.tell(text, { instance, fault, from });
  }
}
