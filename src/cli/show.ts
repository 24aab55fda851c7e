/** Answers of the control socket as people read them. */
import type { chains as chainsOf, flows as flowsOf, services as servicesOf, stats as statsOf, status as statusOf } from '../dataplane/views.js';
import { bytes, code, counts, endpoint, table } from '../observe/print.js';

type Answer<F extends (...args: never[]) => unknown> = Awaited<ReturnType<F>>;

export function status(s: Answer<typeof statusOf>): string {
  const underlay = s.underlay === null ? 'none' : `${s.underlay.interface} (${s.underlay.addresses.join(', ')}, MTU ${s.underlay.mtu})`;
  return [
    `weir ${s.pid}, up ${s.uptimeSeconds} s, generation ${s.generation}, port ${s.port}`,
    `underlay   ${underlay}`,
    ...s.captures.map((c) => `capture    ${c.name}: ${c.in} <-> ${c.out} (tenant ${c.tenant})`),
    `instances  ${s.instances.up} of ${s.instances.total} up${s.instances.unresolved > 0 ? `, ${s.instances.unresolved} without a neighbour` : ''}`,
    `chains     ${s.chains}, policies ${s.policies}`,
    `streams    ${s.streams.active} of ${s.streams.capacity}`,
  ].join('\n');
}

export function stats(s: Answer<typeof statsOf>): string {
  const total = (['captured', 'stamped', 'returned', 'delivered', 'crossed'] as const).map((key) => [key, s[key].packets, bytes(s[key].bytes)]);
  return [
    table(['', 'packets', 'bytes'], total),
    `\nstreams: ${s.streams.active} live, ${s.streams.opened} opened, ${s.streams.expired} expired, ${s.streams.evicted} evicted, room for ${s.streams.capacity}`,
    `\n${counts('dropped', s.dropped)}`,
    `\n${counts('crossed', s.crossedBy)}`,
    `\n${table(['policy', 'streams', 'packets', 'bytes'], s.policies.map((row) => [row.name, row.streams, row.packets, bytes(row.bytes)]))}`,
    `\n${table(['chain', 'streams', 'packets', 'bytes'], s.chains.map((row) => [row.name, row.streams, row.packets, bytes(row.bytes)]))}`,
    `\n${table(['instance', 'live', 'sent', 'received'], s.instances.map((row) => [row.name, row.streams, row.sent.packets, row.received.packets]))}`,
    `\n${table(['interface', 'rx', 'rx lost', 'tx', 'tx errors'], s.ports.map((row) => [row.interface, row.rxFrames, row.rxDropped, row.txFrames, row.txErrors]))}`,
  ].join('\n');
}

export function flows(answer: Answer<typeof flowsOf>): string {
  const rows = answer.flows.map((f) => [
    f.protocol,
    `${endpoint(f.source, f.sourcePort, f.protocol)} ${f.opened === 'out' ? '->' : '<-'} ${endpoint(f.destination, f.destinationPort, f.protocol)}`,
    f.action === 'chain' ? `${f.chain} (path ${f.path})` : f.action,
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
      path.services.join(' > ') || '(no hop)',
      chain.encapsulation,
      `${path.spi.forward}/${path.spi.answers}`,
      path.streams,
    ]),
  );
  return table(['chain', 'path', '', 'services', 'encapsulation', 'SPI', 'streams'], rows);
}

export function services(list: Answer<typeof servicesOf>): string {
  const rows = list.flatMap((service) =>
    service.instances.map((i) => [service.name, i.name, i.address, i.mac === null ? `${i.state} (no neighbour)` : i.state, i.weight, i.streams, i.sent.packets, i.received.packets]),
  );
  return table(['service', 'instance', 'address', 'state', 'weight', 'streams', 'sent', 'received'], rows);
}
