/** Everything that is counted, in the Prometheus text format. docs/operations.md lists the names; the dashboard in examples/ uses them. */
import { readFileSync, readdirSync } from 'node:fs';
import type { ServiceConfig } from '../config/configuration.js';
import { underlayLabel } from '../config/underlays.js';
import type { SyncReport } from '../mesh/hello.js';
import { EVENT_KINDS } from '../observe/events.js';
import { Exposition, type Histogram, type Labels } from '../observe/exposition.js';
import { instanceKey } from '../program/compile.js';
import { wayMtu } from '../program/way-mtu.js';
import { roleOf } from '../program/port-numbers.js';
import type { Dataplane } from './dataplane.js';
import { LATENCY_FIRST_BIT, type InstanceState, type NativeCounters, type NativeLatency, type PacketCount } from './native.js';

/** Rows of one kind (policies, chains, instances): beyond that a configuration is too large to be scraped row by row. */
export const MOST_ROWS = 1000;

const STATES: readonly InstanceState[] = ['up', 'draining', 'down', 'standby'];
const STAGES = ['captured', 'stamped', 'proxied', 'returned', 'delivered', 'crossed'] as const;

type Rows = (readonly [Labels, number])[];

/** The sum over all workers. */
export function histogramOf(all: readonly NativeLatency[]): Histogram {
  const buckets = all[0]?.counts.length ?? 1;
  const counts = Array.from({ length: buckets }, (_, i) => all.reduce((sum, one) => sum + (one.counts[i] ?? 0), 0));
  return {
    bounds: Array.from({ length: buckets - 1 }, (_, i) => 2 ** (LATENCY_FIRST_BIT + i) / 1e9),
    counts,
    sum: all.reduce((sum, one) => sum + one.sumNs, 0) / 1e9,
  };
}

export function metricsText(dataplane: Dataplane, version: string): string {
  const counters = dataplane.runner.counters();
  const out = new Exposition();
  out
    .family('gauge', 'weir_build_info', 'The version that runs; always 1.', [[{ version, port: dataplane.configuration.port }, 1]])
    .gauge('weir_generation', 'Generation of the desired state in force.', dataplane.generation);
  pipeline(out, counters);
  streams(out, counters);
  policies(out, dataplane, counters);
  chains(out, dataplane, counters);
  instances(out, dataplane, counters);
  syncs(out, dataplane);
  interfaces(out, dataplane, counters);
  workers(out, counters);
  conditions(out, dataplane);
  out.family('counter', 'weir_events_total', 'Events told, by kind (docs/control.md).', EVENT_KINDS.map((kind) => [{ kind }, dataplane.events.count(kind)] as const));
  processFacts(out, dataplane);
  return out.toString();
}

/** Two families of the same rows: packets and bytes. */
function traffic(out: Exposition, prefix: string, what: string, rows: readonly (readonly [Labels, PacketCount])[]): void {
  out.family('counter', `${prefix}_packets_total`, `Packets ${what}.`, rows.map(([labels, { packets }]) => [labels, packets]));
  out.family('counter', `${prefix}_bytes_total`, `Bytes ${what}.`, rows.map(([labels, { bytes }]) => [labels, bytes]));
}

function pipeline(out: Exposition, counters: NativeCounters): void {
  traffic(out, 'weir_pipeline', 'by stage: captured from captures, stamped to instances, proxied to those that know nothing of stamps, returned by both, delivered out of captures, crossed unsteered', STAGES.map((stage) => [{ stage }, counters[stage]] as const));
  out.family('counter', 'weir_dropped_packets_total', 'Packets dropped, by reason.', Object.entries(counters.dropped).map(([reason, n]) => [{ reason }, n] as const));
  out.family('counter', 'weir_crossed_packets_total', 'Packets that crossed unsteered, by reason.', Object.entries(counters.crossedBy).map(([reason, n]) => [{ reason }, n] as const));
  out.counter('weir_pipeline_cut_packets_total', 'Packets that others were cut into, the first of each not counted.', counters.cut);
  out.counter('weir_probe_answers_total', 'Health probes that came back.', counters.probesAnswered);
  out.counter('weir_neighbour_answers_total', 'Questions about virtual addresses that were answered.', counters.neighbourAnswers);
  out.gauge('weir_fragments_held', 'Fragments that wait for the first one of their packet.', counters.held);
  out.counter('weir_underlay_ignored_frames_total', 'Frames on the underlay that were not for weir.', counters.ignored);
  const { fragments } = counters;
  const directions = [[{ direction: 'sent' }, fragments.sent, fragments.datagramsSent], [{ direction: 'received' }, fragments.received, fragments.datagramsReceived]] as const;
  out.family('counter', 'weir_underlay_fragments_total', 'Fragments of stamped packets (fragment: true).', directions.map(([labels, n]) => [labels, n]));
  out.family('counter', 'weir_underlay_fragmented_packets_total', 'Stamped packets that left in fragments, and such that became whole.', directions.map(([labels, , n]) => [labels, n]));
}

function streams(out: Exposition, { streams: { active, capacity, opened, expired, evicted } }: NativeCounters): void {
  out
    .gauge('weir_flow_table_streams', 'Live streams.', active)
    .gauge('weir_flow_table_capacity_streams', 'Streams that the flow table holds.', capacity)
    .gauge('weir_flow_table_fill_ratio', 'Share of the flow table in use, 0 to 1.', capacity === 0 ? 0 : active / capacity)
    .counter('weir_streams_opened_total', 'Streams opened.', opened)
    .counter('weir_streams_expired_total', 'Streams that ended or were idle for too long.', expired)
    .counter('weir_streams_evicted_total', 'Live streams given up for new ones because the flow table was full.', evicted);
}

/** Of the first MOST_ROWS; a gauge tells how many others there are. */
function bounded<T>(out: Exposition, kind: string, all: readonly T[]): readonly T[] {
  out.gauge(`weir_${kind}_left_out_rows`, `How many of them have no rows of their own here because there are more than ${MOST_ROWS}.`, Math.max(0, all.length - MOST_ROWS));
  return all.slice(0, MOST_ROWS);
}

const NOTHING = { packets: 0, bytes: 0, streams: 0 };

function policies(out: Exposition, { inForce, ids }: Dataplane, counters: NativeCounters): void {
  const counted = new Map(counters.policies.map((row) => [row.id, row]));
  const rows = bounded(out, 'policies', inForce.policies).map(({ name }) => [{ policy: name }, counted.get(ids.policies.id(name)) ?? NOTHING] as const);
  traffic(out, 'weir_policy', 'of streams that the policy decided', rows);
  out.family('counter', 'weir_policy_streams_total', 'Streams that the policy decided.', rows.map(([labels, row]) => [labels, row.streams]));
}

function chains(out: Exposition, dataplane: Dataplane, counters: NativeCounters): void {
  const counted = new Map(counters.chains.map((row) => [row.id, row]));
  const active = new Map(counters.paths.map(({ id, streams: n }) => [id, n]));
  const all = bounded(out, 'chains', dataplane.whole.chains);
  const rows = all.map(({ name }) => [{ chain: name }, counted.get(dataplane.ids.chains.id(name)) ?? NOTHING] as const);
  traffic(out, 'weir_chain', 'that entered the chain', rows);
  out.family('counter', 'weir_chain_streams_opened_total', 'Streams opened on the chain.', rows.map(([labels, row]) => [labels, row.streams]));
  const paths = new Map<string, { paths: number; streams: number }>();
  for (const { chain, id } of dataplane.paths.all()) {
    const sum = paths.get(chain) ?? { paths: 0, streams: 0 };
    paths.set(chain, { paths: sum.paths + 1, streams: sum.streams + (active.get(id) ?? 0) });
  }
  out.family('gauge', 'weir_chain_streams', 'Live streams on all paths of the chain.', all.map(({ name }) => [{ chain: name }, paths.get(name)?.streams ?? 0]));
  out.family('gauge', 'weir_chain_paths', 'Paths of the chain: the current one and those whose streams have not ended yet.', all.map(({ name }) => [{ chain: name }, paths.get(name)?.paths ?? 0]));

  const names = new Set(all.map(({ name }) => name));
  const hops = counters.hops
    .map((row) => ({ ...row, chain: dataplane.ids.chains.name(row.chain) ?? '' }))
    .filter(({ chain }) => names.has(chain))
    .slice(0, MOST_ROWS * 4);
  traffic(out, 'weir_hop', 'sent to the hop, counted from 1 in chain order; weir_hop_info names its service', hops.map(({ chain, position, ...count }) => [{ chain, hop: position + 1 }, count] as const));
  const services: Rows = all.flatMap(({ name, services: list }) => list.map((service, i) => [{ chain: name, hop: i + 1, service }, 1] as const)).slice(0, MOST_ROWS * 4);
  out.family('gauge', 'weir_hop_info', "The service of a hop on the chain's current path; always 1.", services);
}

function instances(out: Exposition, dataplane: Dataplane, counters: NativeCounters): void {
  const counted = new Map(counters.instances.map((row) => [row.id, row]));
  const compiled = new Map(dataplane.program.instances.map((instance) => [instance.id, instance]));
  const named = (service: ServiceConfig): { labels: { service: string; name: string }; key: string; attached: boolean }[] =>
    service.instances.map(({ name, attach }) => ({ labels: { service: service.name, name }, key: instanceKey(service.name, name), attached: attach !== null }));
  const all = bounded(out, 'instances', dataplane.configuration.services.flatMap(named)).map((row) => ({ ...row, id: dataplane.ids.instances.id(row.key) }));
  traffic(out, 'weir_instance_sent', 'sent to the instance, with their stamps where it gets such', all.map(({ labels, id }) => [labels, counted.get(id)?.sent ?? NOTHING] as const));
  traffic(out, 'weir_instance_received', 'that the instance returned, with their stamps where it gets such', all.map(({ labels, id }) => [labels, counted.get(id)?.received ?? NOTHING] as const));
  out.family('gauge', 'weir_instance_streams', 'Live streams pinned to the instance.', all.map(({ labels, id }) => [labels, counted.get(id)?.streams ?? 0]));
  out.family('gauge', 'weir_instance_state', 'State of the instance: 1 for the one that it is in, 0 for the others.', all.flatMap(({ labels, key }): Rows => STATES.map((state) => [{ ...labels, state }, dataplane.stateOf(key) === state ? 1 : 0])));
  out.family('gauge', 'weir_instance_resolved', 'Whether a neighbour answers for the address of the instance.', all.filter(({ attached }) => !attached).map(({ labels, id }) => [labels, compiled.get(id)?.mac == null ? 0 : 1]));
  out.family('gauge', 'weir_instance_mtu_bytes', 'What a stamped packet may measure on the way to the instance.', all.flatMap(({ labels, id }): Rows => { const mtu = wayMtu(dataplane.program, compiled.get(id)); return mtu === null ? [] : [[labels, mtu]]; }));
}

/** What nodes say in their hellos: a second old at most, and of those that are not there nothing. */
function syncs(out: Exposition, { mesh, configuration }: Dataplane): void {
  if (mesh === undefined) return;
  const said = new Map(mesh.view().map(({ instance, sync }) => [instance, sync]));
  const rows = configuration.services
    .filter(({ sync }) => sync !== 'off')
    .flatMap(({ name: service, instances: all }) => all.map(({ name }) => ({ labels: { service, name }, sync: said.get(instanceKey(service, name)) ?? null })))
    .flatMap(({ labels, sync }) => (sync === null ? [] : [{ labels, sync }]))
    .slice(0, MOST_ROWS);
  const row = (of: (sync: SyncReport) => number): Rows => rows.map(({ labels, sync }) => [labels, of(sync)]);
  out.family('gauge', 'weir_sync_lag_seconds', 'For how long the oldest change of a stream has waited for another instance to have it.', row(({ lagMs }) => lagMs / 1000));
  out.family('gauge', 'weir_sync_waiting_streams', 'Streams with a change that the other instance does not have yet.', row(({ waitingStreams }) => waitingStreams));
  out.family('gauge', 'weir_sync_fill_streams', 'Streams whose state another instance is still to get: since a change of the members.', row(({ fillStreams }) => fillStreams));
  out.family('counter', 'weir_sync_unprotected_states_total', 'States that nobody else could keep though packets were to wait for that.', row(({ unprotected }) => unprotected));
}

function interfaces(out: Exposition, { configuration, host }: Dataplane, { ports }: NativeCounters): void {
  const labelled = ports.map((port) => {
    const role = roleOf(port.port, configuration);
    const capture = ('capture' in role ? configuration.captures[role.capture]?.name : undefined) ?? '';
    return { labels: { interface: port.interface, role: role.kind, capture }, port };
  });
  const underlays = configuration.underlays.map((underlay, i) => ({ labels: { underlay: underlayLabel(underlay), interface: underlay.interface }, mtu: host.underlays[i]?.mtu ?? 0 }));
  out.family('gauge', 'weir_underlay_mtu_bytes', 'What a stamped packet may measure on the underlay.', underlays.map(({ labels, mtu }) => [labels, mtu]));
  const counter = (name: string, help: string, of: (port: (typeof ports)[number]) => number): unknown => out.family('counter', `weir_interface_${name}`, help, labelled.map(({ labels, port }) => [labels, of(port)]));
  counter('received_frames_total', 'Frames read, super-frames counted once.', (port) => port.rxFrames);
  counter('received_bytes_total', 'Bytes read.', (port) => port.rxBytes);
  counter('lost_frames_total', 'Frames that the kernel lost because the ring was full.', (port) => port.rxDropped);
  counter('sent_frames_total', 'Frames sent, super-frames counted once.', (port) => port.txFrames);
  counter('sent_bytes_total', 'Bytes sent.', (port) => port.txBytes);
  counter('send_errors_total', 'Frames that the kernel or the device did not take.', (port) => port.txErrors);
  out.family('gauge', 'weir_interface_open', 'Whether the interface is there.', labelled.map(({ labels, port }) => [labels, port.open ? 1 : 0]));
  out.family('gauge', 'weir_interface_cuts', 'Whether super-frames are cut before they reach the interface.', labelled.map(({ labels, port }) => [labels, port.cuts ? 1 : 0]));
}

function workers(out: Exposition, { workers: all }: NativeCounters): void {
  if (all.length === 0) return; // the pcap port has no threads
  const rows = (of: (worker: (typeof all)[number]) => number): Rows => all.map((worker, i) => [{ worker: i }, of(worker)]);
  traffic(out, 'weir_worker_received', 'that the thread handled: captured and returned ones', all.map((worker, i) => [{ worker: i }, worker.received] as const));
  traffic(out, 'weir_worker_sent', 'that the thread sent: stamped, delivered and crossed ones', all.map((worker, i) => [{ worker: i }, worker.sent] as const));
  out.family('counter', 'weir_worker_dropped_packets_total', 'Packets that the thread dropped, for any reason.', rows((worker) => worker.dropped));
  out.family('counter', 'weir_worker_lost_frames_total', "Frames that the kernel lost because the thread's rings were full.", rows((worker) => worker.ringDropped));
  out.family('counter', 'weir_worker_turns_total', "Rounds of the thread's loop; one that stands still is stuck.", rows((worker) => worker.turns));
  out.family('counter', 'weir_worker_cpu_seconds_total', 'Processor time that the thread has used.', rows((worker) => worker.cpuNs / 1e9));
  out.histogram('weir_pipeline_group_seconds', 'Time of one group of at most 16 frames in the pipeline; every 16th group is timed.', histogramOf(all.map((worker) => worker.group)));
  out.histogram('weir_transit_seconds', 'From when the kernel took the oldest frame of a batch until what became of the batch was handed back to the kernel; each batch.', histogramOf(all.map((worker) => worker.transit)));
}

function conditions(out: Exposition, { conditions: state, configuration }: Dataplane): void {
  const inForce = state.inForce.variant?.name;
  out.family('gauge', 'weir_condition_active', 'Whether the named configuration is in force.', configuration.configurations.map(({ name }) => [{ configuration: name }, name === inForce ? 1 : 0]));
  out.family('gauge', 'weir_switch_on', 'Whether the switch is on.', configuration.switches.map(({ name, on }) => [{ switch: name }, (state.switches.get(name)?.on ?? on) ? 1 : 0]));
}

/** The names that Prometheus' own client libraries use. */
function processFacts(out: Exposition, { startedAt }: Dataplane): void {
  const { user, system } = process.cpuUsage();
  out
    .counter('process_cpu_seconds_total', 'Processor time of all threads.', (user + system) / 1e6)
    .gauge('process_resident_memory_bytes', 'Memory in use.', process.memoryUsage.rss())
    .gauge('process_start_time_seconds', 'When weir started, in seconds since 1970.', startedAt / 1000);
  try {
    out.gauge('process_open_fds', 'Open file descriptors.', readdirSync('/proc/self/fd').length);
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    if (limit !== undefined) out.gauge('process_max_fds', 'Limit of open file descriptors.', Number(limit));
  } catch {
    // Without /proc there is nothing to tell.
  }
}
