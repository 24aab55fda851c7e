/**
 * A service node as a data-plane unit: takes its part from the managers (function, settings, maps), has native code pass packets of
 * streams that it does not know on by these maps, and reports how it is. Without managers it goes on with what it has.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canonical } from '../config/address.js';
import { same } from '../config/share.js';
import { native, type ApplianceCounters, type LiveStreams, type NativeUnitMaps } from '../dataplane/native.js';
import { Neighbours } from '../dataplane/neighbours.js';
import type { Logger } from '../observe/log.js';
import { instanceKey, instanceSeed } from '../program/compile.js';
import { ManagerLink } from './link.js';
import type { Part, UnitPart, UnitReport } from './messages.js';

const NEIGHBOURS_EVERY_MS = 1000;
/** Until everybody has a link address. */
const NEIGHBOURS_SOON_MS = 50;
/** How long a part may wait for these before it counts as taken. */
const NEIGHBOURS_WAIT_MS = 1000;
/** Reading all streams takes some milliseconds. */
const STREAMS_EVERY_MS = 500;
const LOAD_EVERY_MS = 1000;

export interface UnitOptions {
  readonly service: string;
  readonly name: string;
  readonly interface: string;
  readonly address: string;
  readonly managers: readonly { readonly address: string; readonly port: number }[];
  readonly key: Uint8Array;
}

/** The node that serves. */
export interface UnitNode {
  joinAppliance(maps: NativeUnitMaps | null): void;
  liveStreams(): LiveStreams | null;
  counters(): { readonly appliance: ApplianceCounters | null };
  /** Reads the function's settings again. */
  reload(): void;
  readonly load: () => { readonly cpu: number | null; readonly packetsPerSecond: number | null };
}

const NO_STREAMS: LiveStreams = { streams: 0, elsewhere: 0, byVersion: [] };

export class ApplianceUnit {
  readonly #session = randomBytes(8).toString('hex');
  readonly #neighbours: Neighbours;
  readonly #link: ManagerLink;
  #directory: string | null = null;
  #settings: UnitPart['settings'] = null;
  #part: UnitPart | null = null;
  #node: UnitNode | null = null;
  #serving!: () => void;
  readonly #served = new Promise<void>((resolve) => (this.#serving = resolve));
  #first!: (part: UnitPart) => void;
  /** Fulfilled with what a manager says first: what this node runs. */
  readonly first = new Promise<UnitPart>((resolve) => (this.#first = resolve));
  #installed = '';
  #next: NodeJS.Timeout | null = null;
  #streams: { readonly atMs: number; readonly value: LiveStreams } | null = null;
  #load: { readonly atMs: number; readonly cpu: number | null; readonly packetsPerSecond: number | null } = { atMs: -Infinity, cpu: null, packetsPerSecond: null };

  constructor(
    private readonly options: UnitOptions,
    private readonly log: Logger,
  ) {
    this.#neighbours = new Neighbours(() => [native.interfaceInfo(options.interface)]);
    this.#link = new ManagerLink({ managers: options.managers, address: options.address, key: options.key, report: () => this.#report(), take: (part) => this.#take(part) }, log);
  }

  /** Of the part; null: the function gets none. The file lasts until close(). */
  settingsFile(part: UnitPart): string | null {
    return part.settings === null ? null : this.#write(part.settings);
  }

  /** Has this node be the unit. */
  serve(node: UnitNode): void {
    this.#node = node;
    this.#serving();
  }

  close(): void {
    this.#link.close();
    if (this.#next !== null) clearTimeout(this.#next);
    if (this.#directory !== null) rmSync(this.#directory, { recursive: true, force: true });
  }

  #write(settings: Readonly<Record<string, unknown>>): string {
    this.#directory ??= mkdtempSync(join(tmpdir(), 'weir-unit-'));
    const file = join(this.#directory, 'settings.json');
    writeFileSync(`${file}.new`, JSON.stringify(settings), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    this.#settings = settings;
    return file;
  }

  #report(): UnitReport {
    const { service, name, address } = this.options;
    const counters = this.#node?.counters().appliance ?? null;
    const { streams, byVersion } = this.#liveStreams();
    const { cpu, packetsPerSecond } = this.#loadNow();
    return {
      type: 'unit',
      ...this.#link.edition,
      name,
      service,
      address: canonical(address),
      session: this.#session,
      streams,
      needs: byVersion,
      cpu,
      packetsPerSecond,
      opened: counters?.opened ?? 0,
      openedMidstream: counters?.openedMidstream ?? 0,
      passedOn: counters?.passedOn.packets ?? 0,
      takenUp: counters?.takenUp.packets ?? 0,
    };
  }

  #liveStreams(): LiveStreams {
    const now = performance.now();
    if (this.#streams === null || now - this.#streams.atMs >= STREAMS_EVERY_MS) this.#streams = { atMs: now, value: this.#node?.liveStreams() ?? NO_STREAMS };
    return this.#streams.value;
  }

  #loadNow(): { readonly cpu: number | null; readonly packetsPerSecond: number | null } {
    const now = performance.now();
    if (now - this.#load.atMs >= LOAD_EVERY_MS) this.#load = { atMs: now, ...(this.#node?.load() ?? { cpu: null, packetsPerSecond: null }) };
    return this.#load;
  }

  async #take(part: Part): Promise<void> {
    if (part.type !== 'unit_part') throw new Error(`a manager takes this unit for a dispatcher (${part.type})`);
    this.#first(part);
    await this.#served;
    if (part.settings !== null && !same(part.settings, this.#settings)) {
      this.#write(part.settings);
      this.#node?.reload();
    }
    this.#part = part;
    for (const end = performance.now() + NEIGHBOURS_WAIT_MS; !this.#install() && performance.now() < end; ) await new Promise((wake) => setTimeout(wake, NEIGHBOURS_SOON_MS));
    // What is said next has to be of these maps.
    this.#streams = null;
  }

  /** Has native code use the maps with the link addresses that are known. True if all are. */
  #install(): boolean {
    if (this.#next !== null) clearTimeout(this.#next);
    const part = this.#part;
    if (part === null) return true;
    const others = [...new Set([...part.dispatchers, ...part.units.map(([, address]) => address)])].filter((address) => address !== canonical(this.options.address));
    this.#neighbours.refresh(others.map((address) => ({ address })));
    const maps = part.maps.length === 0 ? null : this.#nativeMaps(part);
    const text = JSON.stringify(maps);
    if (text !== this.#installed) {
      try {
        this.#node?.joinAppliance(maps);
      } catch (error) {
        this.log.error(`the maps of the manager make no sense: ${(error as Error).message}`);
      }
      this.#installed = text;
    }
    const missing = others.some((address) => this.#neighbours.macOf(address) === null);
    this.#next = setTimeout(() => this.#install(), missing ? NEIGHBOURS_SOON_MS : NEIGHBOURS_EVERY_MS).unref();
    return !missing;
  }

  #nativeMaps({ epoch, opened, dispatchers, units, maps }: UnitPart): NativeUnitMaps {
    const { service, name, address, interface: device } = this.options;
    const place = (where: string): { address: string; mac: string | null } => ({ address: where, mac: this.#neighbours.macOf(where) });
    const own = { address: canonical(address), mac: native.interfaceInfo(device)?.mac ?? null };
    const index = units.findIndex(([unit]) => unit === name);
    return {
      own,
      ownUnit: index < 0 ? null : index,
      epoch,
      opened,
      dispatchers: dispatchers.map(place),
      units: units.map(([unit, where]) => ({ ...(where === own.address ? own : place(where)), seed: instanceSeed(instanceKey(service, unit)) })),
      maps,
    };
  }
}
