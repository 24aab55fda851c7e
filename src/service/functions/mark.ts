/**
 * `mark`: writes its name into test packets, so that the receiver sees who handled them and in which order. A test packet is
 * UDP with a payload that begins with `weir-test`; each node appends `|name`. Everything else is forwarded as it is.
 */
import { viewPacket, type PacketView } from '../packet-view.js';
import type { ServiceFunction } from '../service-function.js';

const MARKER = Buffer.from('weir-test');
const UDP = 17;

export const mark: ServiceFunction<null> = {
  name: 'mark',
  newStream: () => null,
  onPacket(packet, _stream, node) {
    const view = viewPacket(packet.bytes, packet.encapsulation === 'nsh');
    if (view === null || view.protocol !== UDP || view.fragment) return 'forward';
    const payload = Buffer.from(view.bytes.subarray(view.payload, view.end));
    if (!payload.subarray(0, MARKER.length).equals(MARKER)) return 'forward';
    return { replace: withPayload(view, Buffer.concat([payload, Buffer.from(`|${node.name}`)])) };
  },
};

/** The packet with another UDP payload, lengths and checksums right. */
function withPayload(view: PacketView, payload: Buffer): Uint8Array {
  const out = Buffer.concat([view.bytes.subarray(0, view.payload), payload]);
  const udpLength = out.length - view.transport;
  if (view.version === 4) {
    out.writeUInt16BE(out.length - view.ip, view.ip + 2);
    out.writeUInt16BE(0, view.ip + 10);
    out.writeUInt16BE(~sum(out.subarray(view.ip, view.transport)) & 0xffff, view.ip + 10);
  } else {
    out.writeUInt16BE(udpLength, view.ip + 4);
  }
  out.writeUInt16BE(udpLength, view.transport + 4);
  out.writeUInt16BE(0, view.transport + 6);
  const addresses = view.version === 4 ? out.subarray(view.ip + 12, view.ip + 20) : out.subarray(view.ip + 8, view.ip + 40);
  const pseudo = Buffer.concat([addresses, Buffer.from([0, UDP, udpLength >> 8, udpLength & 255])]);
  const checksum = ~sum(out.subarray(view.transport), sum(pseudo)) & 0xffff;
  out.writeUInt16BE(checksum === 0 ? 0xffff : checksum, view.transport + 6);
  return out;
}

/** One's complement sum of 16-bit words (RFC 1071), folded. */
function sum(bytes: Uint8Array, start = 0): number {
  let total = start;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
