/** Readings for conditions from what native code counts: rates between two looks, amounts as they are. */
import { readingsOf, type Readings } from '../conditions/readings.js';
import type { Configuration, ServiceConfig } from '../config/configuration.js';
import { reachable } from '../program/attachments.js';
import { instanceKey } from '../program/compile.js';
import type { Ids } from '../program/ids.js';
import type { NativeCounters, NativeProgram } from './native.js';

/** A rate over less time would be noise: an exact look at a window's edge may come right behind one of upkeep's. */
const LEAST_INTERVAL_MS = 500;

/** What a service's instances say themselves; null: not all of them say so, for `cpu` none. */
export type Reported = (service: ServiceConfig) => { readonly cpu: number | null; readonly packetsPerSecond: number | null; readonly streams: number | null };
const NOTHING = { cpu: null, packetsPerSecond: null, streams: null };

/** Counts more than what is measured here: other forwarders send to the same instances. */
function said({ services }: Configuration, reported: Reported): Record<string, number> {
  const values: Record<string, number> = {};
  for (const service of services) {
    const { cpu, packetsPerSecond, streams } = reported(service);
    for (const [of, value] of [['cpu', cpu], ['packets_per_second', packetsPerSecond], ['streams', streams]] as const) {
      if (value !== null) values[`load ${service.name} ${of}`] = value;
    }
  }
  return values;
}

export class Sampler {
  #counts: Readonly<Record<string, number>> = {};
  #atMs = -Infinity;
  #rates: Readonly<Record<string, number>> = {};

  /** Rates are unknown until the second call, and where nothing is counted. */
  sample(configuration: Configuration, program: NativeProgram, ids: Ids, counters: NativeCounters, nowMs: number, reported: Reported = () => NOTHING): Readings {
    const interval = nowMs - this.#atMs;
    if (interval >= LEAST_INTERVAL_MS || interval < 0) {
      const counts = countsOf(configuration, ids, counters);
      this.#rates = interval > 0 && Number.isFinite(interval) ? ratesOf(this.#counts, counts, interval) : {};
      this.#counts = counts;
      this.#atMs = nowMs;
    }
    return readingsOf({ ...this.#rates, ...amountsOf(configuration, program, ids, counters), ...said(configuration, reported) });
  }
}

/** Per second, under the name of what is counted; a count that fell (its instance is gone) is no rate below 0. */
function ratesOf(before: Readonly<Record<string, number>>, now: Readonly<Record<string, number>>, intervalMs: number): Record<string, number> {
  const rates: Record<string, number> = {};
  for (const [name, count] of Object.entries(now)) {
    const last = before[name];
    if (last !== undefined) rates[name] = (Math.max(0, count - last) * 1000) / intervalMs;
  }
  return rates;
}

function countsOf({ services, captures }: Configuration, ids: Ids, { instances, ports }: NativeCounters): Record<string, number> {
  const counts: Record<string, number> = {};
  const sent = new Map(instances.map((row) => [row.id, row.sent.packets]));
  for (const { name, instances: own } of services) {
    counts[`load ${name} packets_per_second`] = own.reduce((sum, instance) => sum + (sent.get(ids.instances.id(instanceKey(name, instance.name))) ?? 0), 0);
  }
  const byPort = new Map(ports.map((row) => [row.port, row]));
  captures.forEach(({ name }, i) => {
    const sides = [byPort.get(1 + 2 * i), byPort.get(2 + 2 * i)].filter((row) => row !== undefined);
    if (sides.length < 2) return;
    counts[`rate ${name} bits_per_second`] = sides.reduce((sum, row) => sum + row.rxBytes * 8, 0);
    counts[`rate ${name} packets_per_second`] = sides.reduce((sum, row) => sum + row.rxFrames, 0);
  });
  return counts;
}

function amountsOf({ services }: Configuration, program: NativeProgram, ids: Ids, counters: NativeCounters): Record<string, number> {
  const amounts: Record<string, number> = { streams: counters.streams.active };
  // Those that a primary directs streams to.
  const directed = new Set(program.services.flatMap((service) => (service.primary === true ? [service.id] : [])));
  const streamsAt = new Map(counters.instances.map((row) => [row.id, row.streams]));
  for (const { name, instances } of services) {
    const own = new Set(instances.map((instance) => ids.instances.id(instanceKey(name, instance.name))));
    amounts[`load ${name} streams`] = [...own].reduce((sum, id) => sum + (streamsAt.get(id) ?? 0), 0);
    amounts[`healthy ${name}`] = program.instances.filter(({ id, state, ...instance }) => own.has(id) && (state === 'up' || (state === 'draining' && directed.has(instance.service))) && reachable(instance)).length;
  }
  return amounts;
}
