/** Packets that a function changes: lengths and checksums follow (RFC 791, 768, 9293, 8200). */
import { put16, sum16, u16 } from './bytes.js';
import type { Packet } from './packet.js';

const TCP = 6;
const UDP = 17;
const LONGEST = 65_535;

/** The packet with another TCP or UDP payload. Sequence numbers stay: whoever makes a TCP payload longer or shorter has to mend them in all packets that follow. */
export function withPayload(packet: Packet, payload: Uint8Array): Uint8Array {
  const { memory, start, version, protocol } = packet;
  if (version === 0 || packet.fragment || (protocol !== TCP && protocol !== UDP)) {
    throw new TypeError('withPayload(): expected a TCP or UDP packet that is no fragment');
  }
  const [ip, transport, head] = [packet.ip - start, packet.transport - start, packet.payloadStart - start];
  const length = head + payload.length - ip;
  if (length > LONGEST) throw new TypeError(`withPayload(): the packet would have ${length} bytes; an IP packet has ${LONGEST} at most`);
  const out = new Uint8Array(head + payload.length);
  out.set(memory.subarray(start, start + head));
  out.set(payload, head);
  if (version === 4) {
    put16(out, ip + 2, length);
    put16(out, ip + 10, 0);
    put16(out, ip + 10, ~sum16(out, ip, transport) & 0xffff);
  } else {
    put16(out, ip + 4, length - 40);
  }
  if (protocol === UDP) put16(out, transport + 4, out.length - transport);
  finishTransport(out, version, protocol, ip, transport);
  return out;
}

/** Computes the checksum of the TCP or UDP segment from `transport` to the end of `bytes`. */
function finishTransport(bytes: Uint8Array, version: 4 | 6, protocol: number, ip: number, transport: number): void {
  const at = transport + (protocol === TCP ? 16 : 6);
  if (version === 4 && protocol === UDP && u16(bytes, at) === 0) return; // sent without one
  put16(bytes, at, 0);
  const [from, end] = version === 4 ? [ip + 12, ip + 20] : [ip + 8, ip + 40];
  const length = bytes.length - transport;
  const pseudo = sum16(bytes, from, end, protocol + (length & 0xffff) + (length >>> 16));
  const checksum = ~sum16(bytes, transport, bytes.length, pseudo) & 0xffff;
  put16(bytes, at, checksum === 0 && protocol === UDP ? 0xffff : checksum);
}
