/**
 * The service map: for each path, and each service on it, who serves its streams. With it everybody computes the same primary and secondary
 * of a stream from its code (src/program/service-map.ts). Paths are versions of a chain, so a map has old and new ones side by side.
 */
import { createHash } from 'node:crypto';
import { instanceSeed } from '../program/compile.js';
import { score } from '../program/service-map.js';

export type SyncMode = 'off' | 'async' | 'strict';

export interface MapInstance {
  /** `service/instance`. */
  readonly key: string;
  readonly address: string;
  /** Of its process, as it runs now. */
  readonly session: string;
  /** UDP port that it takes the state of streams on; 0: it takes none. */
  readonly syncPort: number;
}

/** `instance` is an index. */
export type MapMember = readonly [instance: number, weight: number, tier: number];

export interface MapHop {
  readonly service: string;
  /** In the order of their tiers: who is of a higher one serves what nobody of a lower one is left to serve. */
  readonly members: readonly MapMember[];
}

export interface MapPath {
  readonly id: number;
  /** Of a mesh chain. */
  readonly handsOn: boolean;
  readonly answersBackwards: boolean;
  /** Past its last service, what travels with the opener leaves from the instance's host. Absent: by the forwarder, as nodes do that don't know of it. */
  readonly exitsDirectly?: boolean;
  readonly hops: readonly MapHop[];
}

/** What a map says, without its number. */
export interface MapContent {
  readonly leaseMs: number;
  /** Addresses of the forwarder on the underlay. */
  readonly forwarders: readonly string[];
  readonly services: readonly { readonly name: string; readonly sync: SyncMode; readonly failOpen: boolean }[];
  readonly instances: readonly MapInstance[];
  /** Runs that serve nobody any more, though they may still be there: they have to begin anew. */
  readonly givenUp: readonly string[];
  readonly paths: readonly MapPath[];
}

export interface ServiceMap extends MapContent {
  readonly version: number;
}

export const MOST_MAP_BYTES = 4 << 20;

/** Of the encoded map. 1 had no tiers. */
const FORMAT = 2;

export const encodeMap = (map: ServiceMap): Buffer => Buffer.from(JSON.stringify({ format: FORMAT, ...map }));
export const digestOf = (encoded: Uint8Array): string => createHash('sha256').update(encoded).digest('hex').slice(0, 16);

/** Throws a sentence about what is wrong: whoever has the key may still make mistakes. */
export function decodeMap(encoded: Uint8Array): ServiceMap {
  const { format = 1, ...map } = JSON.parse(Buffer.from(encoded).toString('utf8')) as ServiceMap & { readonly format?: number };
  const check = (good: boolean, what: string): void => {
    if (!good) throw new Error(`the map has ${what}`);
  };
  check(format === FORMAT, `the format ${format}, and this node reads ${FORMAT}: run the same version of weir everywhere`);
  const isNumber = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  check(isNumber(map.version) && map.version > 0, 'no version');
  check(isNumber(map.leaseMs) && map.leaseMs > 0, 'no lease');
  for (const list of [map.forwarders, map.services, map.instances, map.givenUp, map.paths] as unknown[]) check(Array.isArray(list), 'a part that is no list');
  check(map.forwarders.every((address) => typeof address === 'string'), 'an address that is none');
  check(map.givenUp.every((session) => typeof session === 'string'), 'a run that is none');
  for (const { name, sync, failOpen } of map.services) check(typeof name === 'string' && ['off', 'async', 'strict'].includes(sync) && typeof failOpen === 'boolean', 'a service that is none');
  for (const { key, address, session, syncPort } of map.instances) check([key, address].every((text) => typeof text === 'string') && /^[0-9a-f]{16}$/.test(session) && isNumber(syncPort), 'an instance that is none');
  for (const { id, handsOn, answersBackwards, exitsDirectly = false, hops } of map.paths) {
    check(isNumber(id) && id > 0 && typeof handsOn === 'boolean' && typeof answersBackwards === 'boolean' && typeof exitsDirectly === 'boolean' && (handsOn || !exitsDirectly) && Array.isArray(hops), 'a path that is none');
    for (const { service, members } of hops) {
      check(typeof service === 'string' && Array.isArray(members), 'a hop that is none');
      check(members.every(([instance, weight, tier]) => isNumber(instance) && instance < map.instances.length && isNumber(weight) && weight > 0 && weight < 65_536 && isNumber(tier) && tier < 65_536), 'a member that is none');
      check(members.every(([, , tier], i) => tier >= (members[i - 1]?.[2] ?? 0)), 'members whose tiers do not go up');
    }
  }
  return map;
}

/** A map with what is looked up in it. */
export class MapView {
  readonly #paths: ReadonlyMap<number, MapPath>;
  readonly #seeds: readonly (readonly [number, number])[];
  readonly #bySession: ReadonlyMap<string, number>;
  readonly #services: ReadonlyMap<string, ServiceMap['services'][number]>;

  constructor(readonly map: ServiceMap) {
    this.#paths = new Map(map.paths.map((path) => [path.id, path]));
    this.#seeds = map.instances.map(({ key }) => instanceSeed(key));
    this.#bySession = new Map(map.instances.map(({ session }, i) => [session, i]));
    this.#services = new Map(map.services.map((service) => [service.name, service]));
  }

  syncOf(service: string): SyncMode {
    return this.#services.get(service)?.sync ?? 'off';
  }

  /** The instance of this run; null: it is in no map. */
  bySession(session: string): MapInstance | null {
    return this.map.instances[this.#bySession.get(session) ?? -1] ?? null;
  }

  path(id: number): MapPath | null {
    return this.#paths.get(id) ?? null;
  }

  /** Whether this run came to the path after it was made: another run of its instance may have been a member before. */
  isLate(path: number, service: string, session: string): boolean {
    const members = this.#paths.get(path)?.hops.find((hop) => hop.service === service)?.members;
    return members?.some(([instance, , tier]) => tier > 0 && this.map.instances[instance]?.session === session) === true;
  }

  /** Instances of a service on a path in the order in which they serve a code: primary, secondary, … Null: there is no such path or hop. */
  ranked(path: number, service: string, code: number): readonly MapInstance[] | null {
    const members = this.#paths.get(path)?.hops.find((hop) => hop.service === service)?.members;
    if (members === undefined) return null;
    return members
      .map(([instance, weight, tier], order) => ({ instance, order, tier, score: score(code, { id: 0, weight, seed: this.#seeds[instance] ?? [0, 0] }) }))
      .sort((a, b) => a.tier - b.tier || a.score - b.score || a.order - b.order)
      .flatMap(({ instance }) => this.map.instances[instance] ?? []);
  }
}
