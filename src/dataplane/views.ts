/** The dataplane's state in names instead of numbers: what the control socket answers. */
import type { InstanceState, NativeFlow, NativeInstance, PacketCount } from './native.js';
import { attachText } from '../config/diff.js';
import { underlayLabel } from '../config/underlays.js';
import { reachable } from '../program/attachments.js';
import type { HealthView } from '../health/monitor.js';
import type { Measured } from '../load/balancer.js';
import type { LoadView } from '../load/ledger.js';
import { instanceKey } from '../program/compile.js';
import { wayMtu } from '../program/way-mtu.js';
import type { Dataplane } from './dataplane.js';

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };
const NO_PACKETS: PacketCount = { packets: 0, bytes: 0 };

export interface UnderlayView {
  /** Null: the only one, and written without a name. */
  readonly name: string | null;
  readonly interface: string;
  readonly addresses: readonly string[];
  readonly mtu: number;
}

export interface StatusView {
  readonly generation: number;
  readonly uptimeSeconds: number;
  readonly pid: number;
  readonly port: string;
  /** The first one. */
  readonly underlay: UnderlayView | null;
  readonly underlays: readonly UnderlayView[];
  readonly captures: readonly { readonly name: string; readonly in: string; readonly out: string; readonly tenant: number }[];
  readonly streams: { readonly active: number; readonly capacity: number };
  readonly chains: number;
  /** Addresses that weir answers ARP and neighbour discovery for. */
  readonly virtualAddresses: readonly string[];
  readonly policies: number;
  readonly instances: { readonly total: number; readonly up: number; readonly unresolved: number };
}

export function status(dataplane: Dataplane): StatusView {
  const { configuration, host } = dataplane;
  const configured = new Set(configuration.services.flatMap((service) => service.instances.map((instance) => dataplane.ids.instances.id(instanceKey(service.name, instance.name)))));
  const instances = dataplane.program.instances.filter(({ id }) => configured.has(id));
  const { active, capacity } = dataplane.runner.counters().streams;
  const underlays = configuration.underlays.map(({ name, interface: device }, i): UnderlayView => {
    const { ipv4 = null, ipv6 = null, mtu = 0 } = host.underlays[i] ?? {};
    return { name, interface: device, addresses: [ipv4, ipv6].filter((address) => address !== null), mtu };
  });
  return {
    generation: dataplane.generation,
    uptimeSeconds: Math.round((Date.now() - dataplane.startedAt) / 1000),
    pid: process.pid,
    port: configuration.port,
    underlay: underlays[0] ?? null,
    underlays,
    captures: configuration.captures.map(({ name, in: inside, out, tenant }) => ({ name, in: inside, out, tenant })),
    streams: { active, capacity },
    chains: configuration.chains.length,
    virtualAddresses: configuration.chains.flatMap((chain) => chain.virtualAddresses),
    policies: dataplane.inForce.policies.length,
    instances: {
      total: instances.length,
      up: instances.filter((instance) => dataplane.stateOf(dataplane.ids.instances.name(instance.id) ?? '') === 'up' && reachable(instance)).length,
      unresolved: instances.filter((instance) => !reachable(instance)).length,
    },
  };
}

export type StatsView = ReturnType<typeof stats>;

export function stats(dataplane: Dataplane) {
  const { ids } = dataplane;
  const counters = dataplane.runner.counters();
  return {
    ...counters,
    generation: dataplane.generation,
    policies: counters.policies.map(({ id, ...row }) => ({ name: ids.policies.name(id) ?? `#${id}`, ...row })),
    chains: counters.chains.map(({ id, ...row }) => ({ name: ids.chains.name(id) ?? `#${id}`, ...row })),
    paths: counters.paths.map((path) => ({ ...path, chain: dataplane.paths.get(path.id)?.chain ?? null })),
    instances: counters.instances.map(({ id, ...row }) => ({ name: ids.instances.name(id) ?? `#${id}`, ...row })),
  };
}

export interface FlowView {
  readonly capture: string;
  readonly vlan: readonly [number, number];
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly opened: 'out' | 'in';
  readonly code: number;
  readonly policy: string | null;
  readonly action: NativeFlow['action'];
  readonly chain: string | null;
  readonly path: number | null;
  /** Its last instance keeps the packets and answers by itself. */
  readonly delivers: boolean;
  /** `service/instance` in chain order; null where the hop has none. */
  readonly instances: readonly (string | null)[];
  readonly tcp: NativeFlow['tcp'];
  readonly packets: number;
  readonly bytes: number;
  readonly idleMs: number;
}

/** What names the numbers of a stream. */
export type Naming = Pick<Dataplane, 'configuration' | 'ids'> & { readonly paths: Pick<Dataplane['paths'], 'get'> };

export function flowView(dataplane: Naming, flow: NativeFlow): FlowView {
  const { ids } = dataplane;
  const path = flow.action === 'chain' ? dataplane.paths.get(flow.path) : undefined;
  return {
    capture: dataplane.configuration.captures[flow.capture]?.name ?? `#${flow.capture}`,
    vlan: flow.vlan,
    protocol: PROTOCOL_NAMES[flow.protocol] ?? String(flow.protocol),
    source: flow.source,
    sourcePort: flow.sourcePort,
    destination: flow.destination,
    destinationPort: flow.destinationPort,
    opened: flow.opened,
    code: flow.code,
    policy: flow.policy < 0 ? null : (ids.policies.name(flow.policy) ?? null),
    action: flow.action,
    chain: path?.chain ?? null,
    path: path?.id ?? null,
    delivers: path?.deliver ?? false,
    instances: flow.pins.map((id) => (id < 0 ? null : (ids.instances.name(id) ?? null))),
    tcp: flow.tcp,
    packets: flow.packets,
    bytes: flow.bytes,
    idleMs: flow.idleMs,
  };
}

export interface FlowFilter {
  readonly chain?: string;
  readonly instance?: string;
  readonly address?: string;
  readonly port?: number;
  readonly protocol?: string;
}

function passes(flow: FlowView, filter: FlowFilter): boolean {
  const { chain, instance, address, port, protocol } = filter;
  if (chain !== undefined && flow.chain !== chain) return false;
  if (instance !== undefined && !flow.instances.includes(instance)) return false;
  if (address !== undefined && flow.source !== address && flow.destination !== address) return false;
  if (port !== undefined && flow.sourcePort !== port && flow.destinationPort !== port) return false;
  return protocol === undefined || flow.protocol === protocol;
}

export interface FlowsAnswer {
  readonly flows: FlowView[];
  readonly more: boolean;
  /** Where there are more: pass it on as `cursor` to go on behind the last one. */
  readonly next?: number;
}

/** At most `limit` live streams from `cursor` on; `more` tells whether there are others. */
export async function flows(dataplane: Dataplane, filter: FlowFilter, limit: number, from = 0): Promise<FlowsAnswer> {
  const found: FlowView[] = [];
  let next = -1;
  for (let cursor = from; cursor >= 0; ) {
    // A page ends where the answer is full, so that the next one begins right behind it.
    const room = limit - found.length;
    const page = await dataplane.runner.flows(cursor, room === 0 ? 256 : Math.min(room, 256));
    for (const flow of page.flows) {
      const view = flowView(dataplane, flow);
      if (!passes(view, filter)) continue;
      if (found.length === limit) return { flows: found, more: true, next };
      found.push(view);
    }
    cursor = page.next;
    if (room > 0) next = cursor;
  }
  return { flows: found, more: false };
}

/** Of a chain by name: live streams on any of its paths, and what it has carried. */
export function flowsOn(dataplane: Dataplane): (chain: string) => { readonly streams: number } & PacketCount {
  const counters = dataplane.runner.counters();
  const countOf = new Map(counters.chains.map((row) => [row.id, row]));
  const streams = new Map<string, number>();
  for (const path of counters.paths) {
    const chain = dataplane.paths.get(path.id)?.chain;
    if (chain !== undefined) streams.set(chain, (streams.get(chain) ?? 0) + path.streams);
  }
  return (chain) => {
    const { packets, bytes } = countOf.get(dataplane.ids.chains.id(chain)) ?? NO_PACKETS;
    return { streams: streams.get(chain) ?? 0, packets, bytes };
  };
}

export function chains(dataplane: Dataplane) {
  const counters = dataplane.runner.counters();
  const streamsOn = new Map(counters.paths.map((path) => [path.id, path.streams]));
  const countOf = new Map(counters.chains.map((row) => [row.id, row]));
  // With those that were taken out and still have streams.
  return dataplane.whole.chains.map((chain) => {
    const count = countOf.get(dataplane.ids.chains.id(chain.name));
    return {
      name: chain.name,
      services: chain.services,
      encapsulation: chain.encapsulation,
      answers: chain.answers,
      deliver: chain.deliver,
      exit: chain.exit,
      virtualAddresses: chain.virtualAddresses,
      delivered: count?.delivered ?? NO_PACKETS,
      packets: count?.packets ?? 0,
      bytes: count?.bytes ?? 0,
      streamsOpened: count?.streams ?? 0,
      paths: dataplane.paths
        .all()
        .filter((path) => path.chain === chain.name)
        .map((path) => ({
          id: path.id,
          version: path.version,
          current: path.current,
          services: path.services,
          deliver: path.deliver,
          spi: { forward: path.id * 2, answers: path.id * 2 + 1 },
          movedTo: path.movedTo === 0 ? null : path.movedTo,
          streams: streamsOn.get(path.id) ?? 0,
        })),
    };
  });
}

export interface InstanceView {
  readonly name: string;
  readonly address: string | null;
  /** How it is reached without a stamp, in words; null where it gets stamped packets. */
  readonly attach: string | null;
  /** What counts. */
  readonly state: InstanceState;
  /** What people set. */
  readonly set: InstanceState;
  /** Null: nothing checks it. */
  readonly health: HealthView | null;
  readonly mac: string | null;
  /** Name of the underlay that it is reached by, or its interface where it has no name; null where it is attached, or not found yet. */
  readonly underlay: string | null;
  /** What a stamped packet may measure on the way to it; null like the underlay. */
  readonly mtu: number | null;
  /** Its neighbour is known, or both sides of it are there. */
  readonly reachable: boolean;
  /** As configured. */
  readonly weight: number;
  /** Share of the weight that it has now, by its load. */
  readonly factor: number;
  /** What it says of itself, and what was refused of that. */
  readonly load: LoadView;
  /** What this weir sends it. */
  readonly measured: Measured | null;
  readonly streams: number;
  readonly sent: PacketCount;
  readonly received: PacketCount;
  /** Packets that ended there. */
  readonly delivered: PacketCount;
}

function underlayOf({ configuration }: Dataplane, instance: NativeInstance | undefined): string | null {
  const underlay = instance?.mac == null ? undefined : configuration.underlays[instance.underlay ?? 0];
  return underlay === undefined ? null : underlayLabel(underlay);
}

export function services(dataplane: Dataplane) {
  dataplane.health.refresh();
  const rows = new Map(dataplane.runner.counters().instances.map((row) => [row.id, row]));
  const compiled = new Map(dataplane.program.instances.map((instance) => [instance.id, instance]));
  return dataplane.configuration.services.map((service) => ({
    name: service.name,
    affinity: service.affinity,
    onFailure: service.onFailure,
    fail: service.fail,
    placement: service.placement === null ? 'hash' : `by_load (${service.placement.metric})`,
    balancer: service.balancer,
    group: dataplane.placement.groups?.view(service.name) ?? null,
    scale: dataplane.scaler.view(service.name),
    instances: service.instances.map((instance): InstanceView => {
      const key = instanceKey(service.name, instance.name);
      const id = dataplane.ids.instances.id(key);
      const row = rows.get(id);
      return {
        name: instance.name,
        address: instance.address,
        attach: instance.attach === null ? null : attachText(instance.attach),
        state: dataplane.stateOf(key),
        set: dataplane.setStateOf(key),
        health: dataplane.health.view(key),
        mac: compiled.get(id)?.mac ?? null,
        underlay: underlayOf(dataplane, compiled.get(id)),
        mtu: wayMtu(dataplane.program, compiled.get(id)),
        reachable: compiled.has(id) && reachable(compiled.get(id) ?? { mac: null, attach: null }),
        weight: instance.weight,
        factor: dataplane.placement.factorOf(key),
        load: dataplane.placement.load.view(key),
        measured: dataplane.placement.balancer.measured(key),
        streams: row?.streams ?? 0,
        sent: row?.sent ?? NO_PACKETS,
        received: row?.received ?? NO_PACKETS,
        delivered: row?.delivered ?? NO_PACKETS,
      };
    }),
  }));
}
