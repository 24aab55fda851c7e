/**
 * The service map as native code has it: with the link addresses of those that packets may go to. A map is used at once, with the addresses that
 * are known. To find one the kernel is asked, which takes a node with ten others on its map some milliseconds: that is not for the time
 * in which packets wait for a map without an instance that has failed.
 */
import { isIpv4 } from '../config/address.js';
import type { NativeMeshMap, NativeNode } from '../dataplane/native-node.js';
import type { Neighbours } from '../dataplane/neighbours.js';
import type { ServiceMap } from '../mesh/service-map.js';
import { instanceSeed } from '../program/compile.js';

const NEIGHBOURS_EVERY_MS = 1000;
/** Until everybody in the map has a link address. */
const NEIGHBOURS_SOON_MS = 50;

export interface InstalledMapOptions {
  readonly service: string;
  /** Of the node; of weir, on the underlay of the node. */
  readonly address: string;
  readonly controller: { readonly address: string };
  /** Link address of the node's interface, as it was when the neighbours were last looked for. */
  readonly ownMac: () => string | null;
  readonly neighbours: Pick<Neighbours, 'refresh' | 'macOf'>;
  readonly node: Pick<NativeNode, 'installMap' | 'unreachable'>;
}

export class InstalledMap {
  #map: ServiceMap | null = null;
  #next: NodeJS.Timeout | null = null;
  #installed = '';
  #former: readonly (readonly [key: string, count: number])[] = [];
  #instances: ServiceMap['instances'] = [];

  constructor(private readonly options: InstalledMapOptions) {}

  install(map: ServiceMap): void {
    if (this.#map === null) this.options.neighbours.refresh([]); // what its own interface is
    this.#map = map;
    this.#use(map);
    const missing = this.#addresses(map).some((address) => this.options.neighbours.macOf(address) === null);
    if (missing || this.#next === null) this.#lookIn(missing ? 0 : NEIGHBOURS_EVERY_MS);
  }

  /** ICMP "unreachable" about what was sent to others, by key, with what was counted under maps before this one. */
  unreachable(): readonly (readonly [key: string, count: number])[] {
    const sums = new Map(this.#former);
    const rows = this.options.node.unreachable();
    for (let i = 0; i + 1 < rows.length; i += 2) {
      const key = this.#instances[rows[i] ?? -1]?.key;
      if (key !== undefined) sums.set(key, (sums.get(key) ?? 0) + (rows[i + 1] ?? 0));
    }
    return [...sums];
  }

  close(): void {
    if (this.#next !== null) clearTimeout(this.#next);
  }

  /** Looks for all link addresses; sooner again while one is missing. */
  #lookIn(ms: number): void {
    this.close();
    this.#next = setTimeout(() => {
      const map = this.#map;
      if (map === null) return;
      const { neighbours } = this.options;
      const addresses = this.#addresses(map);
      neighbours.refresh(addresses.map((address) => ({ address })));
      this.#use(map);
      this.#lookIn(addresses.some((address) => neighbours.macOf(address) === null) ? NEIGHBOURS_SOON_MS : NEIGHBOURS_EVERY_MS);
    }, ms).unref();
  }

  #use(map: ServiceMap): void {
    const made = this.#nativeMap(map);
    const text = JSON.stringify(made);
    if (text === this.#installed) return;
    this.#former = this.unreachable();
    this.#instances = map.instances;
    this.options.node.installMap(made);
    this.#installed = text;
  }

  /** Those that packets may go to, weir first. */
  #addresses(map: ServiceMap): readonly string[] {
    return [...new Set([...this.#forwarders(map).slice(0, 1), ...map.instances.map(({ address }) => address)])].filter((address) => isIpv4(address) === isIpv4(this.options.address));
  }

  /** weir may have several underlays: packets go back to the address that this node knows it by. */
  #forwarders({ forwarders }: ServiceMap): readonly string[] {
    const { address: own, controller } = this.options;
    const near = (address: string): number => (isIpv4(address) !== isIpv4(own) ? 2 : address === controller.address ? 0 : 1);
    return [...forwarders].sort((a, b) => near(a) - near(b));
  }

  #nativeMap(map: ServiceMap): NativeMeshMap {
    const { address: own, service: ownService, ownMac, neighbours } = this.options;
    const place = (address: string): { address: string; mac: string | null } => ({ address, mac: neighbours.macOf(address) });
    const services = new Map(map.services.map(({ name, failOpen }, number) => [name, { number, failOpen }]));
    return {
      version: map.version,
      own: { address: own, mac: ownMac() },
      ownService: services.get(ownService)?.number ?? map.services.length,
      forwarders: this.#forwarders(map).map(place),
      instances: map.instances.map(({ key, address }) => ({ ...place(address), seed: instanceSeed(key) })),
      paths: map.paths.map(({ id, handsOn, answersBackwards, exitsDirectly = false, hops }) => ({
        id,
        handsOn,
        answersBackwards,
        exitsDirectly,
        hops: hops.map(({ service, members }) => ({ service: services.get(service)?.number ?? map.services.length, failOpen: services.get(service)?.failOpen ?? false, members: members.flat() })),
      })),
    };
  }
}
