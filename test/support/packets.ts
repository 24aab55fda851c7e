/** Packets for tests, built from the RFCs. Checksums are right. */

export interface UdpOptions {
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly payload?: Buffer;
  readonly vlan?: readonly number[];
}

function sum(bytes: Buffer, start = 0): number {
  let total = start;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

const ip = (text: string): Buffer => Buffer.from(text.split('.').map(Number));

/** IPv4 header and payload, framed; from the workload's MAC unless `reply`. */
export function frame4(source: string, destination: string, protocol: number, payload: Buffer, vlan: readonly number[] = [], reply = false): Buffer {
  const macs = Buffer.from(reply ? '0200000000aa0200000000bb' : '0200000000bb0200000000aa', 'hex');
  const tags = Buffer.concat(vlan.map((id, i) => Buffer.from([...(i === 0 && vlan.length === 2 ? [0x88, 0xa8] : [0x81, 0x00]), id >> 8, id & 255])));
  const header = Buffer.alloc(20);
  header.writeUInt16BE(0x4500, 0);
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(0x4000, 6);
  header[8] = 64;
  header[9] = protocol;
  ip(source).copy(header, 12);
  ip(destination).copy(header, 16);
  header.writeUInt16BE(~sum(header) & 0xffff, 10);
  return Buffer.concat([macs, tags, Buffer.from([8, 0]), header, payload]);
}

function withChecksum(segment: Buffer, at: number, source: string, destination: string, protocol: number): Buffer {
  const pseudo = Buffer.concat([ip(source), ip(destination), Buffer.from([0, protocol, segment.length >> 8, segment.length & 255])]);
  segment.writeUInt16BE(~sum(segment, sum(pseudo)) & 0xffff, at);
  return segment;
}

export function udp({ source = '10.1.0.2', destination = '10.2.0.2', sourcePort = 40000, destinationPort = 53, payload = Buffer.from('weir'), vlan }: UdpOptions = {}, reply = false): Buffer {
  const segment = Buffer.concat([Buffer.alloc(8), payload]);
  segment.writeUInt16BE(sourcePort, 0);
  segment.writeUInt16BE(destinationPort, 2);
  segment.writeUInt16BE(segment.length, 4);
  return frame4(source, destination, 17, withChecksum(segment, 6, source, destination, 17), vlan, reply);
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const ACK = 16;

export interface TcpOptions {
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly flags?: number;
  readonly sequence?: number;
  readonly payload?: Buffer;
  /** MSS option on a SYN. */
  readonly mss?: number;
  readonly vlan?: readonly number[];
}

export function tcp({ source = '10.1.0.2', destination = '10.2.0.2', sourcePort = 40000, destinationPort = 80, flags = ACK, sequence = 1, payload = Buffer.alloc(0), mss, vlan }: TcpOptions = {}, reply = false): Buffer {
  const options = mss === undefined ? Buffer.alloc(0) : Buffer.from([2, 4, mss >> 8, mss & 255]);
  const header = Buffer.alloc(20);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(destinationPort, 2);
  header.writeUInt32BE(sequence, 4);
  header[12] = (5 + options.length / 4) << 4;
  header[13] = flags;
  header.writeUInt16BE(65_535, 14);
  const segment = withChecksum(Buffer.concat([header, options, payload]), 16, source, destination, 6);
  return frame4(source, destination, 6, segment, vlan, reply);
}

/** The answer to a packet built with the same options. */
export function answer<T extends UdpOptions | TcpOptions>(build: (options: T, reply: boolean) => Buffer, options: T): Buffer {
  const { source = '10.1.0.2', destination = '10.2.0.2', sourcePort = 40000, destinationPort = build === (tcp as unknown) ? 80 : 53 } = options;
  return build({ ...options, source: destination, destination: source, sourcePort: destinationPort, destinationPort: sourcePort }, true);
}

/** Stamp of a stamped IPv4 frame. */
export function stampOf(frame: Buffer): { to: string; spi: number; si: number; code: number } {
  const to = frame.subarray(30, 34).join('.');
  if (frame.readUInt16BE(36) === 4790) return { to, spi: frame.readUIntBE(54, 3), si: frame.readUInt8(57), code: frame.readUInt32BE(62) };
  return { to, spi: frame.readUIntBE(42 + 24 + 3, 3), si: frame.readUInt8(42 + 24 + 6), code: frame.readUInt32BE(42 + 36) };
}
