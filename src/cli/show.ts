/** Answers of the control socket as people read them. */
import type { MeshView, SyncView } from '../control/mesh-methods.js';
import type { InstanceView, chains as chainsOf, flows as flowsOf, services as servicesOf, stats as statsOf, status as statusOf } from '../dataplane/views.js';
import type { GroupView } from '../group/registrar.js';
import type { ScaleView } from '../scale/group.js';
import { bytes, code, counts, endpoint, table } from '../observe/print.js';

type Answer<F extends (...args: never[]) => unknown> = Awaited<ReturnType<F>>;

export function status(s: Answer<typeof statusOf>): string {
  const underlays = s.underlays.map(({ name, interface: device, addresses, mtu }) => `${name === null ? '' : `${name}: `}${device} (${addresses.join(', ')}, MTU ${mtu})`);
  return [
    `weir ${s.pid}, up ${s.uptimeSeconds} s, generation ${s.generation}, port ${s.port}`,
    ...(underlays.length === 0 ? ['none'] : underlays).map((underlay) => `underlay   ${underlay}`),
    ...s.captures.map((c) => `capture    ${c.name}: ${c.in} <-> ${c.out} (tenant ${c.tenant})`),
    `instances  ${s.instances.up} of ${s.instances.total} up${s.instances.unresolved > 0 ? `, ${s.instances.unresolved} without a neighbour` : ''}`,
    `chains     ${s.chains}, policies ${s.policies}`,
    ...(s.virtualAddresses.length === 0 ? [] : [`virtual    ${s.virtualAddresses.join(', ')}`]),
    `streams    ${s.streams.active} of ${s.streams.capacity}`,
  ].join('\n');
}

export function stats(s: Answer<typeof statsOf>): string {
  const total = ([['captured'], ['stamped'], ['proxied'], ['returned'], ['delivered'], ['deliveredToInstances', 'delivered to instances'], ['crossed']] as const).map(([key, name = key]) => [name, s[key].packets, bytes(s[key].bytes)]);
  return [
    table(['', 'packets', 'bytes'], total),
    `\nstreams: ${s.streams.active} live, ${s.streams.opened} opened, ${s.streams.expired} expired, ${s.streams.evicted} evicted, room for ${s.streams.capacity}`,
    `\n${counts('dropped', s.dropped)}`,
    `\n${counts('crossed', s.crossedBy)}`,
    `\n${table(['policy', 'streams', 'packets', 'bytes'], s.policies.map((row) => [row.name, row.streams, row.packets, bytes(row.bytes)]))}`,
    `\n${table(['chain', 'streams', 'packets', 'bytes', 'delivered'], s.chains.map((row) => [row.name, row.streams, row.packets, bytes(row.bytes), row.delivered.packets || '-']))}`,
    `\n${table(['instance', 'live', 'sent', 'received', 'delivered'], s.instances.map((row) => [row.name, row.streams, row.sent.packets, row.received.packets, row.delivered.packets || '-']))}`,
    `\n${table(['interface', 'rx', 'rx lost', 'tx', 'tx errors'], s.ports.map((row) => [row.interface, row.rxFrames, row.rxDropped, row.txFrames, row.txErrors]))}`,
  ].join('\n');
}

export function flows(answer: Answer<typeof flowsOf>): string {
  const rows = answer.flows.map((f) => [
    f.protocol,
    `${endpoint(f.source, f.sourcePort, f.protocol)} ${f.opened === 'out' ? '->' : '<-'} ${endpoint(f.destination, f.destinationPort, f.protocol)}`,
    f.action === 'chain' ? `${f.chain} (path ${f.path}${f.delivers ? ', delivers' : ''})` : f.action,
    f.instances.map((name) => name ?? '-').join(' ') || '-',
    code(f.code),
    f.tcp === 'none' ? '-' : f.tcp,
    f.packets,
    bytes(f.bytes),
    `${(f.idleMs / 1000).toFixed(1)} s`,
  ]);
  return table(['', 'stream', 'chain', 'instances', 'code', 'tcp', 'packets', 'bytes', 'idle'], rows) + (answer.more ? '\n… and more: raise --limit, or filter' : '');
}

export function chains(list: Answer<typeof chainsOf>): string {
  const rows = list.flatMap((chain) =>
    chain.paths.map((path) => [
      chain.name,
      path.id,
      path.current ? 'current' : path.movedTo === null ? 'ending' : `moved to ${path.movedTo}`,
      (path.services.join(' > ') || '(no hop)') + (path.deliver ? ' (delivers)' : ''),
      chain.encapsulation,
      path.deliver ? String(path.spi.forward) : `${path.spi.forward}/${path.spi.answers}`,
      path.streams,
      path.current && chain.deliver ? chain.delivered.packets : '-',
    ]),
  );
  return table(['chain', 'path', '', 'services', 'encapsulation', 'SPI', 'streams', 'delivered'], rows);
}

/** `up`, `down (set up)`: what counts, and what people set where that is something else. */
function stateText({ state, set, attach, reachable }: InstanceView): string {
  return `${state}${state === set ? '' : ` (set ${set})`}${reachable ? '' : attach === null ? ' (no neighbour)' : ' (not there)'}`;
}

const BAR = 8;

/** `####....  52%`; 100 is one core. */
function loadBar(cpu: number | null): string {
  if (cpu === null) return '-';
  const filled = Math.min(BAR, Math.round((cpu / 100) * BAR));
  return `${'#'.repeat(filled)}${'.'.repeat(BAR - filled)} ${`${cpu.toFixed(0)}%`.padStart(4)}`;
}

/** The latest of health and of load reports that somebody should know of. */
function remark({ health, load }: InstanceView): string {
  const refused = Object.entries(load.refused);
  return [
    ...(health === null ? [] : [health.cause]),
    ...(load.stale ? ['load reports stopped'] : []),
    ...(refused.length === 0 ? [] : [`load reports refused: ${refused.map(([kind, n]) => `${kind} ${n}`).join(', ')}`]),
  ].join('; ');
}

const since = (text: string): string => text.replace('T', ' ').replace(/\.\d+Z$/, 'Z');

/** Who directs, and what shares it gives. */
function groupLine(service: string, { primary, shares, chosen, told }: GroupView): string {
  if (primary === null) return `group ${service}: no instance can be its primary`;
  const given = shares === null ? '' : `, shares ${Object.entries(shares).map(([name, share]) => `${name} ${(share * 100).toFixed(0)}%`).join(', ')}`;
  return `group ${service}: primary ${primary}${told ? '' : ' (it has not been heard of: it needs `weir node --report … --group`)'}, ${chosen} streams directed${given}`;
}

/** How a service scales: the numbers, what is not in the table yet or on its way out of it, and what goes wrong. */
function scaleLines(service: string, { count, min, max, metric, load, target, members, faults }: ScaleView): string[] {
  const moving = members.filter(({ phase }) => phase !== 'serving').map(({ name, address, phase, why }) => `${name}${address === null ? '' : ` (${address})`} ${phase}: ${why}`);
  return [
    `scale ${service}: ${count} of ${min} to ${max}, ${metric} ${load === null ? 'unknown' : Math.round(load)}, target ${target} each${moving.length === 0 ? '' : `; ${moving.join('; ')}`}`,
    ...faults.map(({ hook, cause, times, since: first, nextTry }) => `scale ${service}: hook ${hook} failed ${times === 1 ? 'once' : `${times} times`} since ${since(first)}: ${cause}; next try ${since(nextTry)}`),
  ];
}

export function services(list: Answer<typeof servicesOf>): string {
  const several = new Set(list.flatMap(({ instances }) => instances.flatMap(({ underlay }) => underlay ?? []))).size > 1;
  const rows = list.flatMap((service) =>
    service.instances.map((i) => [
      service.name,
      i.name,
      i.attach ?? `${i.address ?? ''}${several && i.underlay !== null ? ` (${i.underlay})` : ''}`,
      i.mtu ?? '-',
      stateText(i),
      i.health === null ? '-' : since(i.health.since),
      i.health === null || i.health.latencyMs === null ? '-' : `${i.health.latencyMs.toFixed(1)} ms`,
      i.factor === 1 ? String(i.weight) : `${i.weight} x ${i.factor.toFixed(2)}`,
      loadBar(i.load.load?.cpu ?? null),
      Math.round(i.load.load?.packetsPerSecond ?? i.measured?.packetsPerSecond ?? 0),
      i.load.load?.queue ?? '-',
      i.streams,
      i.sent.packets,
      i.received.packets,
      i.delivered.packets || '-',
      remark(i) || '-',
    ]),
  );
  const grid = table(['service', 'instance', 'address', 'mtu', 'state', 'since', 'answers in', 'weight', 'cpu', 'packets/s', 'queue', 'streams', 'sent', 'received', 'delivered', 'why'], rows);
  return [grid, ...list.flatMap(({ name, group }) => (group === null ? [] : [groupLine(name, group)])), ...list.flatMap(({ name, scale }) => (scale === null ? [] : scaleLines(name, scale)))].join('\n');
}

const SYNC = ['sync lag', 'waiting', 'to fill', 'unprotected'];
const syncOf = (sync: SyncView | null): readonly (string | number)[] => (sync === null ? SYNC.map(() => '-') : [`${sync.lag_ms} ms`, sync.waiting_streams, sync.fill_streams, sync.unprotected_states]);

export function mesh({ version, lease_ms: leaseMs, nodes, paths, refused }: MeshView): string {
  const synced = nodes.some(({ sync }) => sync !== null);
  return [
    `service map ${version}, lease ${leaseMs} ms`,
    `\n${table(['node', 'run', 'heard', 'map', ...(synced ? SYNC : [])], nodes.map((n) => [n.instance, n.session ?? 'not there', n.heard_ms_ago === null ? '-' : `${n.heard_ms_ago} ms ago`, n.version === 0 ? '-' : n.behind ? 'older' : 'this one', ...(synced ? syncOf(n.sync) : [])]))}`,
    `\n${table(['path', 'chain', '', 'members'], paths.map((p) => [p.path, p.chain, p.current ? 'current' : 'ending', Object.entries(p.members).map(([service, members]) => `${service}: ${members.map((key) => key.split('/')[1]).join(' ') || 'nobody'}`).join(', ')]))}`,
    ...(Object.keys(refused).length === 0 ? [] : [`\n${counts('refused', refused)}`]),
  ].join('\n');
}
