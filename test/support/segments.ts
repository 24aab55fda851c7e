/** Packets between two hosts, IPv4 or IPv6, with the fields that firewalls and stream assembly look at. Built from the RFCs, checksums right. */
import { parseAddress } from '../../src/config/address.js';
import { native } from '../../src/dataplane/native.js';
import type { TestPacket } from './service-function.js';

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;

const KEY = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
export const MAC_A = '020000000001';
export const MAC_B = '020000000002';

/** Two ends and a protocol; A sends the first packet of most of them. */
export interface Flow {
  readonly a: string;
  readonly b: string;
  readonly aPort: number;
  readonly bPort: number;
}

export interface Built extends TestPacket {
  readonly what: string;
  readonly fromA: boolean;
}

export interface TcpFields {
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly payload?: string | Buffer;
  /** Of a SYN: the shift of RFC 7323. */
  readonly scale?: number;
}

const isV6 = (address: string): boolean => address.includes(':');

function addressBytes(address: string): Buffer {
  const bytes = parseAddress(address);
  if (bytes === null) throw new TypeError(`no address: ${address}`);
  return Buffer.from(isV6(address) ? bytes : bytes.subarray(12));
}

function sum(bytes: Uint8Array, start = 0): number {
  let total = start;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

function finish(segment: Buffer, at: number, from: string, to: string, protocol: number): Buffer {
  const length = Buffer.from([0, protocol, segment.length >> 8, segment.length & 255]);
  segment.writeUInt16BE(0, at);
  segment.writeUInt16BE(~sum(segment, sum(Buffer.concat([addressBytes(from), addressBytes(to), length]))) & 0xffff, at);
  return segment;
}

export interface IpFields {
  /** Fragment offset in bytes and whether more follow. */
  readonly fragment?: readonly [number, boolean];
  readonly id?: number;
}

/** An IP packet without a link header. */
export function ipPacket(from: string, to: string, protocol: number, payload: Buffer, { fragment, id = 0 }: IpFields = {}): Buffer {
  if (isV6(from)) {
    const header = Buffer.alloc(40);
    header[0] = 0x60;
    header[6] = fragment === undefined ? protocol : 44;
    header[7] = 64;
    addressBytes(from).copy(header, 8);
    addressBytes(to).copy(header, 24);
    const extension = Buffer.alloc(fragment === undefined ? 0 : 8);
    if (fragment !== undefined) {
      extension[0] = protocol;
      extension.writeUInt16BE(fragment[0] | Number(fragment[1]), 2);
      extension.writeUInt32BE(id, 4);
    }
    header.writeUInt16BE(extension.length + payload.length, 4);
    return Buffer.concat([header, extension, payload]);
  }
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(fragment === undefined ? 0 : (fragment[0] >> 3) | (fragment[1] ? 0x2000 : 0), 6);
  header[8] = 64;
  header[9] = protocol;
  addressBytes(from).copy(header, 12);
  addressBytes(to).copy(header, 16);
  header.writeUInt16BE(~sum(header) & 0xffff, 10);
  return Buffer.concat([header, payload]);
}

export function frame(ip: Buffer, fromA: boolean): Buffer {
  return Buffer.concat([Buffer.from(fromA ? MAC_B + MAC_A : MAC_A + MAC_B, 'hex'), Buffer.from((ip[0] ?? 0) >> 4 === 6 ? [0x86, 0xdd] : [8, 0]), ip]);
}

export const codeOf = (flow: Flow, protocol: number): number => native.affinityCode(KEY, 0, protocol, flow.a, flow.aPort, flow.b, flow.bPort, '5-tuple');

const built = (flow: Flow, what: string, fromA: boolean, protocol: number, ip: Buffer): Built => ({ bytes: frame(ip, fromA), code: codeOf(flow, protocol), spi: fromA ? 10 : 11, what, fromA });

export function tcpSegment({ a, b, aPort, bPort }: Flow, fromA: boolean, fields: TcpFields = {}): Buffer {
  const { sequence = 0, acknowledgement = 0, flags = ACK, window = 64_240, payload = '', scale } = fields;
  const [from, to, source, destination] = fromA ? [a, b, aPort, bPort] : [b, a, bPort, aPort];
  const options = scale === undefined ? Buffer.alloc(0) : Buffer.from([3, 3, scale, 1]);
  const header = Buffer.alloc(20);
  header.writeUInt16BE(source, 0);
  header.writeUInt16BE(destination, 2);
  header.writeUInt32BE(sequence >>> 0, 4);
  header.writeUInt32BE(acknowledgement >>> 0, 8);
  header[12] = ((20 + options.length) / 4) << 4;
  header[13] = flags;
  header.writeUInt16BE(window, 14);
  return finish(Buffer.concat([header, options, Buffer.from(payload)]), 16, from, to, 6);
}

const FLAG_NAMES = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG'];

export function tcp(flow: Flow, fromA: boolean, fields: TcpFields = {}): Built {
  const [from, to] = fromA ? [flow.a, flow.b] : [flow.b, flow.a];
  const { flags = ACK, sequence = 0, acknowledgement = 0, payload = '' } = fields;
  const names = FLAG_NAMES.filter((_, bit) => (flags >> bit) & 1).join('+');
  const what = `${fromA ? '→' : '←'} tcp ${flow.aPort}:${flow.bPort} ${names} seq ${sequence} ack ${acknowledgement} ${payload.length} bytes`;
  return built(flow, what, fromA, 6, ipPacket(from, to, 6, tcpSegment(flow, fromA, fields)));
}

export function udpDatagram({ a, b, aPort, bPort }: Flow, fromA: boolean, payload: string | Buffer = 'x'): Buffer {
  const [from, to, source, destination] = fromA ? [a, b, aPort, bPort] : [b, a, bPort, aPort];
  const header = Buffer.alloc(8);
  header.writeUInt16BE(source, 0);
  header.writeUInt16BE(destination, 2);
  const datagram = Buffer.concat([header, Buffer.from(payload)]);
  datagram.writeUInt16BE(datagram.length, 4);
  return finish(datagram, 6, from, to, 17);
}

export function udp(flow: Flow, fromA: boolean, payload: string | Buffer = 'x'): Built {
  const [from, to] = fromA ? [flow.a, flow.b] : [flow.b, flow.a];
  return built(flow, `${fromA ? '→' : '←'} udp ${flow.aPort}:${flow.bPort}`, fromA, 17, ipPacket(from, to, 17, udpDatagram(flow, fromA, payload)));
}

function icmpMessage(from: string, to: string, type: number, code: number, rest: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest]);
  if (isV6(from)) return finish(message, 2, from, to, 58);
  message.writeUInt16BE(~sum(message) & 0xffff, 2);
  return message;
}

/** A query or its answer; `flow.aPort` is the identifier. */
export function query(flow: Flow, fromA: boolean, type: number): Built {
  const [from, to] = fromA ? [flow.a, flow.b] : [flow.b, flow.a];
  const rest = Buffer.alloc(20);
  rest.writeUInt16BE(flow.aPort, 0);
  rest.writeUInt16BE(1, 2);
  const protocol = isV6(from) ? 58 : 1;
  const same: Flow = { ...flow, bPort: flow.aPort };
  return built(same, `${fromA ? '→' : '←'} icmp type ${type} id ${flow.aPort}`, fromA, protocol, ipPacket(from, to, protocol, icmpMessage(from, to, type, 0, rest)));
}

export const echo = (flow: Flow, fromA: boolean, answer = false): Built => query(flow, fromA, isV6(flow.a) ? (answer ? 129 : 128) : answer ? 0 : 8);

/** An ICMP error from `from` to `to` about `quoted`, an IP packet of the flow. */
export function icmpError(flow: Flow, protocol: number, fromA: boolean, from: string, to: string, quoted: Buffer, type = isV6(from) ? 1 : 3, code = isV6(from) ? 4 : 3): Built {
  const icmp = isV6(from) ? 58 : 1;
  const rest = Buffer.concat([Buffer.alloc(4), quoted.subarray(0, isV6(from) ? 100 : 60)]);
  return built(flow, `${fromA ? '→' : '←'} icmp error type ${type} about ${flow.aPort}:${flow.bPort}`, fromA, protocol, ipPacket(from, to, icmp, icmpMessage(from, to, type, code, rest)));
}

/** A datagram in two fragments. */
export function fragments(flow: Flow, fromA: boolean, id: number): [Built, Built] {
  const [from, to] = fromA ? [flow.a, flow.b] : [flow.b, flow.a];
  const datagram = udpDatagram(flow, fromA, Buffer.alloc(1000, 'f'));
  const part = (at: number, end: number, more: boolean): Built =>
    built(flow, `${fromA ? '→' : '←'} udp ${flow.aPort}:${flow.bPort} fragment at ${at}`, fromA, 17, ipPacket(from, to, 17, datagram.subarray(at, end), { fragment: [at, more], id }));
  return [part(0, 800, true), part(800, datagram.length, false)];
}

/** An IPv6 extension header: its number, and what is in it behind the number of the next one. */
export interface Extension {
  readonly type: number;
  readonly body: Buffer;
}

/** 8 bytes long, or longer by `more` words of 8 (AH: of 4); what is in it is padding. */
export function extension(type: number, more = 0): Extension {
  const body = Buffer.alloc(7 + more * (type === 51 ? 4 : 8));
  body[0] = more;
  if (type !== 51 && type !== 43) body.set([1, body.length - 3], 1);
  return { type, body };
}

export function fragmentHeader(offset: number, more: boolean, id: number): Extension {
  const body = Buffer.alloc(7);
  body.writeUInt16BE(offset | Number(more), 1);
  body.writeUInt32BE(id, 3);
  return { type: 44, body };
}

/** A packet over IPv6 with these headers between its own and the first one behind that. `claimed`: what the last of them says comes next. */
export function extended(packet: Built, headers: readonly Extension[], claimed = packet.bytes[20] ?? 0): Built {
  const bytes = Buffer.from(packet.bytes);
  const inserted = headers.map(({ body }, i) => Buffer.concat([Buffer.from([headers[i + 1]?.type ?? claimed]), body]));
  const whole = Buffer.concat([bytes.subarray(0, 54), ...inserted, bytes.subarray(54)]);
  whole[20] = headers[0]?.type ?? claimed;
  whole.writeUInt16BE(whole.length - 54, 18);
  return { ...packet, bytes: whole, what: `${packet.what} behind ${headers.map(({ type }) => type).join(' ') || 'no header'}` };
}
