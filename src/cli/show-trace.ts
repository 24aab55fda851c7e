/** A trace as people read it. */
import type { DecodedPacket } from '../explain/decode.js';
import type { Trace } from '../explain/trace.js';
import { withoutInstance } from '../dataplane/unserved.js';
import { code, endpoint, table } from '../observe/print.js';

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };
const HEX_COLUMNS = 32;

const protocolName = (protocol: number): string => PROTOCOL_NAMES[protocol] ?? `protocol ${protocol}`;

function packet(p: DecodedPacket): string {
  const end = (address: string, port: number | undefined): string => (port === undefined ? address : endpoint(address, port, 'tcp'));
  const tags = p.ethernet === null ? '' : `${p.ethernet.source} > ${p.ethernet.destination}${p.ethernet.vlans.map((id) => `, VLAN ${id}`).join('')}; `;
  return `${tags}IPv${p.version} ${protocolName(p.protocol)} ${end(p.source, p.ports?.source)} > ${end(p.destination, p.ports?.destination)}, ${p.bytes} bytes, TTL ${p.ttl}${p.dscp === 0 ? '' : `, DSCP ${p.dscp}`}${p.fragment ? ', fragment' : ''}${p.info === '' ? '' : `, ${p.info}`}`;
}

function hexLines(hex: string): string[] {
  return hex.match(new RegExp(`.{1,${2 * HEX_COLUMNS}}`, 'g'))?.map((line) => `  ${line}`) ?? [];
}

function finalLines({ final }: Trace): string[] {
  if (!final.sent) return [`final frame: none; ${final.why}`];
  const lines = [`final frame (packet ${final.packet}) to ${final.instance ?? '?'}${final.underlay === null ? '' : ` by underlay ${final.underlay}`}, ${final.bytes} bytes${final.more > 0 ? `, and ${final.more} more, since it is cut` : ''}:`];
  const { decoded } = final;
  if (decoded !== null) {
    const { outer, stamp, inner } = decoded;
    lines.push(
      `  outer  ${packet(outer)}`,
      `  stamp  ${stamp.encapsulation}: SPI ${stamp.spi} (${stamp.direction}), SI ${stamp.si}, code ${code(stamp.code)}, tenant ${stamp.tenant}${stamp.ttl === null ? '' : `, TTL ${stamp.ttl}`}`,
      `  inner  ${packet(inner)}`,
    );
  }
  return [...lines, ...hexLines(final.hex)];
}

export function trace(t: Trace): string {
  const { stream } = t;
  const name = protocolName(stream.protocol);
  const verdict = t.action === 'chain' ? `chain ${t.chain}, path ${t.path?.id} (version ${t.path?.version}, SPI ${t.path?.spi.forward}, ${t.path?.deliver === true ? 'delivers: answers are left to cross' : `answers ${t.path?.spi.answers}`}, ${t.path?.encapsulation}${t.path?.exit === 'direct' ? ", leaves from the last instance's host" : ''})` : t.action;
  const lines = [
    `${name} ${endpoint(stream.source, stream.sourcePort, name)} > ${endpoint(stream.destination, stream.destinationPort, name)}, opened from the ${stream.direction === 'out' ? 'workload' : 'network'} at ${stream.capture}${stream.vlan[0] === 0 ? '' : `, VLAN ${stream.vlan.filter((id) => id !== 0).join('.')}`}`,
    `code ${code(t.code)}`,
    `decision: ${verdict}, by ${t.policy === null ? 'the default' : `policy ${t.policy}`}`,
    '',
    table(['policy', 'priority', 'specificity', 'verdict'], t.considered.map((c) => [c.policy, c.priority, c.specificity ?? '-', c.verdict])),
  ];
  if (t.notShown > 0) lines.push(`… and ${t.notShown} more that do not match`);
  if (t.hops.length > 0) {
    const rows = t.hops.map((hop, i) => [i + 1, hop.service, code(hop.code), hop.ranked.map((r) => (r.state === 'up' ? r.instance : `${r.instance} (${r.state})`)).join(', ') || 'none', hop.chosen ?? 'none', ...(t.live === null ? [] : [hop.pinned ?? '-'])]);
    lines.push('', table(['hop', 'service', 'code', 'ranked', 'a new stream gets', ...(t.live === null ? [] : ['the live one has'])], rows));
    lines.push(...t.hops.flatMap((hop, i) => (hop.chosen === null ? [`hop ${i + 1}: no instance of ${hop.service ?? 'it'} can take packets now: ${withoutInstance(hop.fail, 'new streams')}`] : [])));
  }
  if (t.live !== null) {
    const way = t.livePath === null ? t.live.action : `path ${t.livePath.id} (version ${t.livePath.version}${t.livePath.current ? '' : t.livePath.movedTo === null ? ', not the current one' : `, goes over to path ${t.livePath.movedTo} at its next packet`}: ${t.livePath.services.join(' > ')})`;
    lines.push('', `live: ${way}, pinned to ${t.live.instances.map((instance) => instance ?? '-').join(', ') || 'nothing'}, by ${t.live.policy ?? 'the default'}, ${t.live.packets} packets, idle for ${(t.live.idleMs / 1000).toFixed(1)} s`);
  }
  return [...lines, '', ...finalLines(t)].join('\n');
}
