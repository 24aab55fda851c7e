/** The load of every instance, and for services with `placement: by_load` the factors of their weights. */
import type { Clock } from '../conditions/clock.js';
import type { PlacementConfig, ServiceConfig } from '../config/configuration.js';
import { readSignals, type SignalRow } from '../health/rows.js';
import { instanceKey } from '../program/compile.js';
import type { Load, LoadLedger } from './ledger.js';
import { EVEN, place, type Placement, type PlacementSettings, type Sample } from './placement.js';

const SMOOTHING_MS = 5000;
/** Rates over less time would be noise. */
const LEAST_INTERVAL_MS = 500;

/** Percent, packets/s, bytes/s, streams, packets that wait. */
const FLOORS: Readonly<Record<PlacementConfig['metric'], number>> = { cpu: 2, packets_per_second: 50, bytes_per_second: 50_000, streams: 8, queue: 4 };

/** What weir itself sends an instance. */
export interface Measured {
  readonly packetsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly streams: number;
  /** New ones a second. */
  readonly placedPerSecond: number;
}

interface Count {
  readonly row: SignalRow;
  readonly atMs: number;
}

export class LoadBalancer {
  #counts = new Map<number, Count>();
  #measured = new Map<number, Measured>();
  readonly #placements = new Map<string, Placement>();
  #factors: ReadonlyMap<string, number> = new Map();

  constructor(
    private readonly clock: Clock,
    private readonly ledger: LoadLedger,
    private readonly idOf: (key: string) => number,
  ) {}

  /** By `service/name`; absent: 1. The same map as long as nothing changes. */
  get factors(): ReadonlyMap<string, number> {
    return this.#factors;
  }

  measured(key: string): Measured | null {
    return this.#measured.get(this.idOf(key)) ?? null;
  }

  /** Takes what native code counted. */
  measure(signals: Float64Array): void {
    const nowMs = this.clock.now();
    const rows = readSignals(signals);
    for (const [id, row] of rows) {
      const last = this.#counts.get(id);
      const seconds = last === undefined ? 0 : (nowMs - last.atMs) / 1000;
      if (last !== undefined && seconds * 1000 < LEAST_INTERVAL_MS && seconds >= 0) continue;
      this.#counts.set(id, { row, atMs: nowMs });
      const rate = (now: number, before: number): number => (seconds > 0 ? Math.max(0, now - before) / seconds : 0);
      this.#measured.set(id, { packetsPerSecond: rate(row.sent, last?.row.sent ?? 0), bytesPerSecond: rate(row.sentBytes, last?.row.sentBytes ?? 0), streams: row.streams, placedPerSecond: rate(row.placed, last?.row.placed ?? 0) });
    }
    for (const id of this.#counts.keys()) {
      if (rows.has(id)) continue;
      this.#counts.delete(id);
      this.#measured.delete(id);
    }
  }

  /** Judges all services anew. True if weights are to change. `takesStreams`: whether an instance gets new streams now. */
  look(services: readonly ServiceConfig[], takesStreams: (key: string) => boolean): boolean {
    const nowMs = this.clock.now();
    const factors = new Map<string, number>();
    let changed = false;
    const names = new Set<string>();
    for (const service of services) {
      const { placement } = service;
      // Where a primary directs, it knows the shares.
      if (placement === null || service.balancer !== 'forwarder') continue;
      names.add(service.name);
      const samples = service.instances.flatMap(({ name, weight }): Sample[] => {
        const key = instanceKey(service.name, name);
        if (!takesStreams(key)) return [];
        const own = this.measured(key);
        const load = this.loadOf(key, placement.metric);
        // It may report streams of other forwarders, too: they are taken to bring as many new ones for each that lives.
        const others = placement.metric === 'streams' && load !== null && own !== null && own.streams > 0 ? Math.max(1, load / own.streams) : 1;
        return [{ key, weight, streams: own?.streams ?? 0, load, placedPerSecond: (own?.placedPerSecond ?? 0) * others }];
      });
      const before = this.#placements.get(service.name) ?? EVEN;
      const after = place(before, samples, settingsOf(placement), nowMs);
      this.#placements.set(service.name, after);
      changed ||= after.factors !== before.factors;
      after.factors.forEach((factor, key) => factors.set(key, factor));
    }
    for (const name of this.#placements.keys()) {
      if (names.has(name)) continue;
      changed ||= (this.#placements.get(name)?.factors.size ?? 0) > 0;
      this.#placements.delete(name);
    }
    if (changed) this.#factors = factors;
    return changed;
  }

  /** What it reports counts what other forwarders send it, too; what weir measures is better than nothing. */
  loadOf(key: string, metric: PlacementConfig['metric']): number | null {
    const said = this.ledger.of(key);
    const own = this.measured(key);
    switch (metric) {
      case 'cpu':
        return said?.cpu ?? null;
      case 'queue':
        return said?.queue ?? null;
      case 'packets_per_second':
        return said?.packetsPerSecond ?? own?.packetsPerSecond ?? null;
      case 'bytes_per_second':
        return said?.bytesPerSecond ?? own?.bytesPerSecond ?? null;
      case 'streams':
        return said?.streams ?? own?.streams ?? null;
    }
  }

  /** For conditions: of instances that take part, in sum, and `cpu` as their mean. Null: not every one says so; for cpu, none does. */
  reported(service: ServiceConfig, takesPart: (key: string) => boolean): { readonly cpu: number | null; readonly packetsPerSecond: number | null; readonly streams: number | null } {
    const loads = service.instances.map(({ name }) => instanceKey(service.name, name)).filter(takesPart).map((key) => this.ledger.of(key));
    const all = loads.filter((load): load is Load => load !== null);
    const cpus = all.flatMap(({ cpu }) => (cpu === null ? [] : [cpu]));
    const sum = (pick: (load: Load) => number | null): number | null => {
      const values = all.map(pick).filter((value): value is number => value !== null);
      return values.length === 0 || values.length < loads.length ? null : values.reduce((total, value) => total + value, 0);
    };
    return { cpu: cpus.length === 0 ? null : cpus.reduce((total, value) => total + value, 0) / cpus.length, packetsPerSecond: sum((load) => load.packetsPerSecond), streams: sum((load) => load.streams) };
  }
}

const settingsOf = ({ metric, least, intervalMs }: PlacementConfig): PlacementSettings => ({ perWeight: metric !== 'cpu', countsStreams: metric === 'streams', floor: FLOORS[metric], least, smoothingMs: SMOOTHING_MS, intervalMs });
