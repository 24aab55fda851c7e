/**
 * The instances of one service as its load wants them: asks hooks for new ones, puts streams on them when they are healthy, drains those
 * that are too many and has them ended. A hook that fails, hangs or lies costs nothing but itself: it is tried again later and later.
 */
import type { Clock } from '../conditions/clock.js';
import type { ServiceConfig } from '../config/configuration.js';
import type { HookConfig, ScaleConfig } from '../config/scale.js';
import { firstFree } from '../config/address-ranges.js';
import { instanceKey } from '../program/compile.js';
import { AT_FIRST, changed, decide, type Demand, type Present } from './decide.js';
import { runHook, type HookOutcome } from './hooks.js';
import type { ScaleHost } from './host.js';
import type { ElasticMember } from './members.js';

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;
/** Names are `service-1`, `service-2` …, and no longer than names may be. */
const MOST_PREFIX = 56;

/** adding: the hook runs; starting: it has to show that it is healthy; removing: until the hook has ended it. */
export type Phase = 'adding' | 'starting' | 'serving' | 'draining' | 'removing';

interface Member {
  readonly name: string;
  /** Null while a hook is to say it. */
  address: string | null;
  phase: Phase;
  sinceMs: number;
  /** Since when it fails while it should serve. */
  failingMs: number | null;
  /** Of the hook that removes it. */
  tries: number;
  nextTryMs: number;
  busy: boolean;
  /** The program has it. */
  admitted: boolean;
  why: string;
}

/** What goes wrong now, with the times it did. */
export interface Fault {
  readonly hook: 'add' | 'remove';
  readonly cause: string;
  readonly times: number;
  readonly since: string;
  /** RFC 3339, UTC. */
  readonly nextTry: string;
}

export interface ScaleView {
  readonly min: number;
  readonly max: number;
  readonly metric: ScaleConfig['metric'];
  /** Of one instance. */
  readonly target: number;
  /** Instances that get new streams, or are to. */
  readonly count: number;
  /** Of all that serve, smoothed; null: unknown. */
  readonly load: number | null;
  readonly members: readonly { readonly name: string; readonly address: string | null; readonly phase: Phase; readonly since: string; readonly why: string }[];
  readonly faults: readonly Fault[];
}

const time = (ms: number): string => new Date(ms).toISOString();
const retryMs = (times: number): number => Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(times - 1, 10));

export class ScaledGroup {
  readonly #members: Member[] = [];
  readonly #faults = new Map<'add' | 'remove', { cause: string; times: number; sinceMs: number; nextTryMs: number }>();
  #demand: Demand = AT_FIRST;
  #present: Present = { count: 0, coming: 0, load: null };
  /** As they were last; the service may have none any more. */
  #settings: ScaleConfig | null = null;
  #remove: { readonly hook: HookConfig; readonly timeoutMs: number } | null = null;

  constructor(
    private readonly service: string,
    private readonly host: ScaleHost,
    private readonly clock: Clock,
    private readonly ended: AbortSignal,
    before: readonly ElasticMember[],
  ) {
    for (const { name, address, sinceMs, remove, timeoutMs } of before) {
      this.#remove = { hook: remove, timeoutMs };
      this.#members.push({ name, address, phase: 'serving', sinceMs, failingMs: null, tries: 0, nextTryMs: 0, busy: false, admitted: true, why: 'it was there before weir began' });
    }
  }

  get idle(): boolean {
    return this.#members.length === 0;
  }

  view(): ScaleView | null {
    const settings = this.#settings;
    if (settings === null) return null;
    const { min, max, metric, target } = settings;
    return {
      min,
      max,
      metric,
      target,
      count: this.#present.count,
      load: this.#demand.load,
      members: this.#members.map(({ name, address, phase, sinceMs, why }) => ({ name, address, phase, since: time(sinceMs), why })),
      faults: [...this.#faults].map(([hook, { cause, times, sinceMs, nextTryMs }]) => ({ hook, cause, times, since: time(sinceMs), nextTry: time(nextTryMs) })),
    };
  }

  /** Those that the program has, or is to have. */
  admitted(): ElasticMember[] {
    const remove = this.#remove;
    if (remove === null) return [];
    return this.#members.flatMap(({ name, address, admitted, sinceMs }) => (address === null || !admitted ? [] : [{ service: this.service, name, address, sinceMs, remove: remove.hook, timeoutMs: remove.timeoutMs }]));
  }

  /** `service`: as written down; null: it is gone. Called about once a second. */
  async look(service: ServiceConfig | null): Promise<void> {
    const settings = service?.scale ?? null;
    this.#settings = settings;
    if (settings !== null) this.#remove = { hook: settings.remove, timeoutMs: settings.timeoutMs };
    const nowMs = this.clock.now();
    await this.#giveUp(service);
    for (const member of [...this.#members]) await this.#follow(member, service, nowMs);
    if (service === null || settings === null) return this.#retire(service);
    this.#present = this.#count(service, settings);
    const { demand, change } = decide(this.#demand, this.#present, settings, nowMs);
    this.#demand = demand;
    if (change > 0) await this.#grow(service, settings, change, nowMs);
    if (change < 0) await this.#shrink(settings, -change, nowMs);
  }

  /** Those that the document has by now are its own. */
  async #giveUp(service: ServiceConfig | null): Promise<void> {
    const own = this.#members.filter(({ name, admitted }) => admitted && service?.instances.some((instance) => instance.name === name) === true);
    if (own.length === 0) return;
    for (const member of own) this.#members.splice(this.#members.indexOf(member), 1);
    await this.host.admit(`${own.map(({ name }) => instanceKey(this.service, name)).join(', ')}: in the document now`);
  }

  async #follow(member: Member, service: ServiceConfig | null, nowMs: number): Promise<void> {
    const key = instanceKey(this.service, member.name);
    if (member.busy || member.phase === 'adding') return;
    if (service === null && member.phase !== 'removing') this.#turn(member, 'removing', 'its service was taken out');
    const set = this.host.setStateOf(key);
    if (member.phase !== 'removing' && set === 'down') this.#turn(member, 'removing', member.phase === 'draining' ? 'drained' : 'set down');
    else if (member.phase === 'draining' && set === 'up') this.#turn(member, 'serving', 'set up again');
    else if (member.phase === 'serving' && set === 'draining') this.#turn(member, 'draining', 'set to drain');

    if (member.phase === 'starting' || member.phase === 'serving') await this.#watch(member, key, nowMs);
    if (member.phase === 'removing' && nowMs >= member.nextTryMs) void this.#end(member);
  }

  /** Whether it becomes, and stays, healthy. */
  async #watch(member: Member, key: string, nowMs: number): Promise<void> {
    if (this.host.stateOf(key) === 'up') {
      member.failingMs = null;
      if (member.phase === 'starting') {
        this.#worked('add');
        this.#turn(member, 'serving', 'healthy');
      }
      return;
    }
    member.failingMs ??= nowMs;
    const readyMs = this.#settings?.readyMs ?? 0;
    if (nowMs - member.failingMs < readyMs) return;
    const why = `not healthy within ${readyMs / 1000} s: ${this.host.causeOf(key)}`;
    if (member.phase === 'starting') this.#failed('add', why, member.name);
    await this.host.setInstance(this.service, member.name, 'down', null);
    this.#turn(member, 'removing', why);
  }

  #turn(member: Member, phase: Phase, why: string): void {
    member.phase = phase;
    member.why = why;
    member.sinceMs = this.clock.now();
    member.failingMs = null;
    this.host.tell({ kind: 'scale', cause: why, service: this.service, instance: instanceKey(this.service, member.name), phase });
  }

  /** A service that does not scale any more keeps what it has written down. */
  async #retire(service: ServiceConfig | null): Promise<void> {
    if (service === null) return;
    for (const member of this.#members) if (member.phase === 'starting' || member.phase === 'serving') await this.#drain(member, null, 'its service has no `scale:` any more');
  }

  #count(service: ServiceConfig, { metric }: ScaleConfig): Present {
    const up = (name: string): boolean => this.host.stateOf(instanceKey(this.service, name)) === 'up';
    const coming = this.#members.filter(({ phase }) => phase === 'adding' || phase === 'starting').length;
    const serving = [...service.instances.map(({ name }) => name).filter(up), ...this.#members.filter(({ name, phase }) => phase === 'serving' && up(name)).map(({ name }) => name)];
    const loads = serving.map((name) => this.host.loadOf(instanceKey(this.service, name), metric)).filter((load) => load !== null);
    const sum = loads.reduce((total, load) => total + load, 0);
    // Of whom nothing is known is taken for one like the others.
    return { count: serving.length + coming, coming, load: loads.length === 0 ? null : (sum * serving.length) / loads.length };
  }

  async #grow(service: ServiceConfig, settings: ScaleConfig, wanted: number, nowMs: number): Promise<void> {
    let left = wanted;
    for (const member of this.#members) {
      if (left === 0 || member.phase !== 'draining') continue;
      await this.host.setInstance(this.service, member.name, 'up', null);
      this.#turn(member, 'serving', 'needed again');
      left--;
      this.#demand = changed(this.#demand, nowMs);
    }
    // Those that fail or are on their way out are still somewhere.
    const room = settings.max - service.instances.length - this.#members.length;
    const fault = this.#faults.get('add');
    if (fault !== undefined && nowMs < fault.nextTryMs) return;
    // After a failure one is tried at a time.
    const most = fault === undefined ? left : Math.min(left, 1);
    for (let n = 0; n < Math.min(most, room); n++) {
      this.#demand = changed(this.#demand, nowMs);
      if (!this.#start(service, settings)) return;
    }
  }

  #start(service: ServiceConfig, settings: ScaleConfig): boolean {
    const names = new Set([...service.instances, ...this.#members].map(({ name }) => name));
    let number = 1;
    while (names.has(`${this.service.slice(0, MOST_PREFIX)}-${number}`)) number++;
    const name = `${this.service.slice(0, MOST_PREFIX)}-${number}`;
    const asked = new Set(this.#members.map(({ address }) => address));
    const address = settings.addresses.length === 0 ? null : firstFree(settings.addresses, (candidate) => asked.has(candidate) || this.host.notFree(candidate) !== null);
    if (address === null && settings.addresses.length > 0) {
      this.#failed('add', `no address of ${settings.addresses.join(', ')} is free`, name);
      return false;
    }
    const member: Member = { name, address, phase: 'adding', sinceMs: this.clock.now(), failingMs: null, tries: 0, nextTryMs: 0, busy: true, admitted: false, why: '' };
    this.#members.push(member);
    this.#turn(member, 'adding', this.#reason(settings));
    void this.#add(member, settings).finally(() => (member.busy = false));
    return true;
  }

  #reason({ min, metric, target }: ScaleConfig): string {
    const { load } = this.#demand;
    return this.#present.count < min || load === null ? `fewer than ${min}` : `${metric} ${Math.round(load)} at ${this.#present.count}, target ${target} each`;
  }

  async #add(member: Member, settings: ScaleConfig): Promise<void> {
    const request = { service: this.service, instance: member.name, address: member.address };
    const outcome = await runHook(settings.add, { action: 'add', ...request }, settings.timeoutMs, this.ended);
    if (this.ended.aborted) return;
    const why = outcome.ok ? await this.#admit(member, outcome.address, settings) : outcome.cause;
    if (why === null) return;
    this.#failed('add', why, member.name);
    this.#turn(member, 'removing', why);
    // It may have begun something. If that can't be ended either, the next try has the same name and place.
    const undone = await runHook(settings.remove, { action: 'remove', ...request }, settings.timeoutMs, this.ended);
    if (!undone.ok) this.#failed('remove', undone.cause, member.name);
    else this.#worked('remove');
    this.#members.splice(this.#members.indexOf(member), 1);
  }

  /** Puts what a hook has started into the program; says why not, or null. */
  async #admit(member: Member, said: string | null, { addresses }: ScaleConfig): Promise<string | null> {
    const asked = member.address;
    const address = said ?? asked;
    if (address === null) return 'it did not say where the instance is: expected {"address": "…"} in its last line, or `addresses` in the configuration';
    if (addresses.length > 0 && asked !== null && said !== null && this.host.canonical(said) !== asked) return `it says that the instance is at ${said}, but it was to be at ${asked}`;
    const wrong = this.host.notFree(address);
    if (wrong !== null) return `it says that the instance is at ${address}: ${wrong}`;
    member.address = this.host.canonical(address);
    member.admitted = true;
    try {
      await this.host.admit(`instance ${instanceKey(this.service, member.name)} added (${member.address}): it gets streams when it is healthy`);
      this.#turn(member, 'starting', 'started');
      return null;
    } catch (error) {
      member.admitted = false;
      member.address = asked;
      return (error as Error).message;
    }
  }

  async #shrink({ drainMs }: ScaleConfig, wanted: number, nowMs: number): Promise<void> {
    const streams = (member: Member): number => this.host.streamsAt(instanceKey(this.service, member.name));
    const lightest = this.#members.filter(({ phase }) => phase === 'serving').sort((a, b) => streams(a) - streams(b) || b.sinceMs - a.sinceMs);
    for (const member of lightest.slice(0, wanted)) {
      await this.#drain(member, drainMs, 'not needed');
      this.#demand = changed(this.#demand, nowMs);
    }
  }

  async #drain(member: Member, deadlineMs: number | null, why: string): Promise<void> {
    await this.host.setInstance(this.service, member.name, 'draining', deadlineMs);
    this.#turn(member, 'draining', why);
  }

  async #end(member: Member): Promise<void> {
    const remove = this.#remove;
    if (remove === null || member.busy) return;
    member.busy = true;
    const request = { action: 'remove', service: this.service, instance: member.name, address: member.address } as const;
    const outcome: HookOutcome = await runHook(remove.hook, request, remove.timeoutMs, this.ended);
    member.busy = false;
    if (this.ended.aborted) return;
    if (!outcome.ok) {
      member.nextTryMs = this.clock.now() + retryMs(++member.tries);
      this.#failed('remove', outcome.cause, member.name);
      return;
    }
    this.#worked('remove');
    this.#members.splice(this.#members.indexOf(member), 1);
    const key = instanceKey(this.service, member.name);
    await this.host.admit(`instance ${key} ended: ${member.why}`).catch((error: unknown) => this.host.warn(`${key} has ended, but is still in the program: ${(error as Error).message}`));
  }

  /** Told when it begins and when its cause is another one. */
  #failed(hook: 'add' | 'remove', cause: string, name: string): void {
    const nowMs = this.clock.now();
    const before = this.#faults.get(hook);
    const times = (before?.times ?? 0) + 1;
    const nextTryMs = nowMs + retryMs(times);
    this.#faults.set(hook, { cause, times, sinceMs: before?.sinceMs ?? nowMs, nextTryMs });
    if (before?.cause === cause) return;
    const instance = instanceKey(this.service, name);
    this.host.warn(`service ${this.service}: the hook \`${hook}\` failed for ${instance}: ${cause}. It is tried again, less and less often; \`weir services\` shows how it goes`);
    this.host.tell({ kind: 'scale', cause: `hook ${hook}: ${cause}`, service: this.service, instance, phase: 'failed' });
  }

  #worked(hook: 'add' | 'remove'): void {
    const before = this.#faults.get(hook);
    if (before === undefined) return;
    this.#faults.delete(hook);
    this.host.info(`service ${this.service}: the hook \`${hook}\` works again, after ${before.times} failures`);
  }
}
