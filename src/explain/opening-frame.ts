/** The frame that opens a stream, made up from its addresses and ports: what `weir trace` sends through where nobody has given a frame. */
import { isIpv4, parseAddress } from '../config/address.js';
import type { Tuple } from '../dataplane/native.js';

const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;
const TTL = 64;
/** Locally administered; the workload's and the network's. */
const MACS = ['02000000000b', '02000000000a'] as const;

/** RFC 1071, over bytes that begin at an even place. */
function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Header of the transport protocol, its checksum zero, and where that checksum stands. */
function transport({ protocol, sourcePort, destinationPort }: Tuple): { bytes: Buffer; checksumAt: number | null } {
  if (protocol === TCP) {
    const bytes = Buffer.alloc(24);
    bytes.writeUInt16BE(sourcePort, 0);
    bytes.writeUInt16BE(destinationPort, 2);
    bytes[12] = 6 << 4;
    bytes[13] = 2; // SYN
    bytes.writeUInt16BE(65_535, 14);
    bytes.writeUInt32BE(0x020405b4, 20); // MSS 1460, for the clamp to show
    return { bytes, checksumAt: 16 };
  }
  if (protocol === UDP) {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16BE(sourcePort, 0);
    bytes.writeUInt16BE(destinationPort, 2);
    bytes.writeUInt16BE(8, 4);
    return { bytes, checksumAt: 6 };
  }
  if (protocol === ICMP || protocol === ICMPV6) {
    const bytes = Buffer.alloc(8);
    bytes[0] = protocol === ICMP ? 8 : 128; // echo request; the identifier stands for both ports
    bytes.writeUInt16BE(sourcePort, 4);
    return { bytes, checksumAt: 2 };
  }
  return { bytes: Buffer.alloc(8), checksumAt: null };
}

function ipHeader(version: 4 | 6, protocol: number, source: Uint8Array, destination: Uint8Array, length: number): Buffer {
  const header = Buffer.alloc(version === 4 ? 20 : 40);
  if (version === 4) {
    header[0] = 0x45;
    header.writeUInt16BE(20 + length, 2);
    header.writeUInt16BE(0x4000, 6); // don't fragment
    header[8] = TTL;
    header[9] = protocol;
    header.set(source, 12);
    header.set(destination, 16);
    header.writeUInt16BE(checksum(header), 10);
  } else {
    header[0] = 0x60;
    header.writeUInt16BE(length, 4);
    header[6] = protocol;
    header[7] = TTL;
    header.set(source, 8);
    header.set(destination, 24);
  }
  return header;
}

/** A SYN, an empty datagram, an echo request: whatever opens such a stream. Null where the addresses are of two families. */
export function openingFrame(tuple: Tuple): Buffer | null {
  const version = isIpv4(tuple.source) ? 4 : 6;
  const [from, to] = [parseAddress(tuple.source), parseAddress(tuple.destination)];
  if (from === null || to === null || isIpv4(tuple.destination) !== (version === 4)) return null;
  const [source, destination] = version === 4 ? [from.subarray(12), to.subarray(12)] : [from, to];
  const { bytes, checksumAt } = transport(tuple);
  if (checksumAt !== null) {
    // ICMP has no pseudo header, ICMPv6 has one (RFC 4443 section 2.3).
    const pseudo = tuple.protocol === ICMP ? Buffer.alloc(0) : Buffer.concat([source, destination, Buffer.from([0, tuple.protocol, 0, bytes.length])]);
    bytes.writeUInt16BE(checksum(pseudo, bytes) || 0xffff, checksumAt);
  }
  const vlans = tuple.vlan.filter((id) => id !== 0);
  const tags = vlans.map((id, i) => Buffer.from([...(i === 0 && vlans.length === 2 ? [0x88, 0xa8] : [0x81, 0x00]), id >> 8, id & 255]));
  const macs = tuple.direction === 'out' ? MACS : MACS.toReversed();
  return Buffer.concat([Buffer.from(macs.join(''), 'hex'), ...tags, Buffer.from(version === 4 ? '0800' : '86dd', 'hex'), ipHeader(version, tuple.protocol, source, destination, bytes.length), bytes]);
}
