/** A stamped frame in words: outer addresses, stamp, inner packet. Reads what weir writes (docs/wire.md); null for anything else. */
import { formatAddress } from '../config/address.js';

export interface DecodedPacket {
  /** Null behind Geneve, which carries no Ethernet header. */
  readonly ethernet: { readonly source: string; readonly destination: string; readonly vlans: readonly number[] } | null;
  readonly version: 4 | 6;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly ttl: number;
  readonly dscp: number;
  /** Of the IP packet. */
  readonly bytes: number;
  readonly fragment: boolean;
  /** TCP and UDP; null elsewhere and in later fragments. */
  readonly ports: { readonly source: number; readonly destination: number } | null;
  /** TCP flags by name, ICMP type and code, or empty. */
  readonly info: string;
}

export interface DecodedStamp {
  readonly encapsulation: 'nsh' | 'geneve';
  /** VNI of NSH's VXLAN-GPE; tenant of the endpoint id in Geneve. */
  readonly tenant: number;
  readonly spi: number;
  readonly si: number;
  /** NSH only. */
  readonly ttl: number | null;
  readonly code: number;
  readonly direction: 'opener' | 'answers';
}

export interface DecodedFrame {
  readonly outer: DecodedPacket;
  readonly stamp: DecodedStamp;
  readonly inner: DecodedPacket;
}

const VLAN_TYPES = new Set([0x8100, 0x88a8, 0x9100]);
const NSH_PORT = 4790;
const GENEVE_PORT = 6081;
const TCP_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'];

const mac = (bytes: Buffer): string => bytes.toString('hex').replace(/(..)(?=.)/g, '$1:');

interface Parsed {
  readonly packet: DecodedPacket;
  /** Offset of what the transport header is followed by. */
  readonly payload: number;
}

/** A frame that begins with Ethernet. */
function parseFrame(frame: Buffer, from = 0): Parsed | null {
  let at = from + 12;
  const vlans: number[] = [];
  for (; at + 4 <= frame.length && VLAN_TYPES.has(frame.readUInt16BE(at)) && vlans.length < 2; at += 4) vlans.push(frame.readUInt16BE(at + 2) & 0xfff);
  if (at + 2 > frame.length) return null;
  const type = frame.readUInt16BE(at);
  if (type !== 0x0800 && type !== 0x86dd) return null;
  return parseIp(frame, at + 2, { destination: mac(frame.subarray(from, from + 6)), source: mac(frame.subarray(from + 6, from + 12)), vlans });
}

function parseIp(frame: Buffer, at: number, ethernet: DecodedPacket['ethernet']): Parsed | null {
  const version = (frame[at] ?? 0) >> 4;
  const header = version === 4 ? ((frame[at] ?? 0) & 15) * 4 : 40;
  if ((version !== 4 && version !== 6) || header < 20 || at + header > frame.length) return null;
  const address = (from: number): string => {
    const bytes = frame.subarray(from, from + (version === 4 ? 4 : 16));
    return formatAddress(version === 4 ? Buffer.concat([Buffer.from('00000000000000000000ffff', 'hex'), bytes]) : bytes);
  };
  let [protocol, later, fragment] = [frame[at + (version === 4 ? 9 : 6)] ?? 0, false, false];
  let transport = at + header;
  if (version === 4) {
    const offset = frame.readUInt16BE(at + 6);
    [fragment, later] = [(offset & 0x3fff) !== 0, (offset & 0x1fff) !== 0];
  } else if (protocol === 44 && transport + 8 <= frame.length) {
    [protocol, fragment, later] = [frame[transport] ?? 0, true, frame.readUInt16BE(transport + 2) >> 3 !== 0];
    transport += 8;
  }
  const [ports, info, size] = later ? [null, 'later fragment', 0] : parseTransport(frame, transport, protocol);
  const first = version === 4 ? { source: 12, destination: 16 } : { source: 8, destination: 24 };
  return {
    packet: {
      ethernet,
      version: version as 4 | 6,
      source: address(at + first.source),
      destination: address(at + first.destination),
      protocol,
      ttl: frame[at + (version === 4 ? 8 : 7)] ?? 0,
      dscp: version === 4 ? (frame[at + 1] ?? 0) >> 2 : (frame.readUInt16BE(at) >> 6) & 63,
      bytes: version === 4 ? frame.readUInt16BE(at + 2) : 40 + frame.readUInt16BE(at + 4),
      fragment,
      ports,
      info,
    },
    payload: transport + size,
  };
}

function parseTransport(frame: Buffer, at: number, protocol: number): [DecodedPacket['ports'], string, number] {
  const size = protocol === 6 ? 20 : 8;
  if (![1, 6, 17, 58].includes(protocol) || at + size > frame.length) return [null, '', 0];
  const ports = { source: frame.readUInt16BE(at), destination: frame.readUInt16BE(at + 2) };
  if (protocol === 6) return [ports, TCP_FLAGS.filter((_, bit) => ((frame[at + 13] ?? 0) >> bit) & 1).join(' '), size];
  if (protocol === 17) return [ports, '', size];
  return [null, `type ${frame[at]} code ${frame[at + 1]}`, size];
}

/** The packet of a frame that carries no stamp. */
export function decodePacket(frame: Uint8Array): DecodedPacket | null {
  return parseFrame(Buffer.from(frame.buffer, frame.byteOffset, frame.length))?.packet ?? null;
}

export function decodeFrame(bytes: Uint8Array): DecodedFrame | null {
  const frame = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const outer = parseFrame(frame);
  const port = outer?.packet.protocol === 17 ? outer.packet.ports?.destination : undefined;
  if (outer === null || port === undefined) return null;
  const at = outer.payload;
  if (port === NSH_PORT) {
    const nsh = at + 8;
    if (nsh + 16 > frame.length) return null;
    const length = (frame.readUInt16BE(nsh) & 63) * 4;
    const spi = frame.readUIntBE(nsh + 4, 3);
    const stamp: DecodedStamp = {
      encapsulation: 'nsh',
      tenant: frame.readUIntBE(at + 4, 3),
      spi,
      si: frame.readUInt8(nsh + 7),
      ttl: (frame.readUInt16BE(nsh) >> 6) & 63,
      code: frame.readUInt32BE(nsh + 12),
      direction: spi % 2 === 0 ? 'opener' : 'answers', // NativePath: 2P and 2P+1
    };
    const inner = parseFrame(frame, nsh + length)?.packet;
    return inner === undefined ? null : { outer: outer.packet, stamp, inner };
  }
  // Geneve with its three options, in the order in which weir writes them.
  if (port !== GENEVE_PORT || at + 40 > frame.length) return null;
  const spi = frame.readUIntBE(at + 27, 3);
  const stamp: DecodedStamp = {
    encapsulation: 'geneve',
    tenant: frame.readUIntBE(at + 17, 3),
    spi,
    si: frame.readUInt8(at + 30),
    ttl: null,
    code: frame.readUInt32BE(at + 36),
    direction: spi % 2 === 0 ? 'opener' : 'answers',
  };
  const inner = parseIp(frame, at + 8 + (frame.readUInt8(at) & 63) * 4, null)?.packet;
  return inner === undefined ? null : { outer: outer.packet, stamp, inner };
}
