/**
 * Reads captures that tcpdump made at instances: which stamped packet arrived there when. Written for the tests from the RFCs,
 * and not from weir's own code.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';

export interface Arrival {
  readonly host: string;
  readonly timeUs: number;
  /** Outer source and destination. */
  readonly from: string;
  readonly to: string;
  readonly spi: number;
  readonly si: number;
  readonly code: number;
  /** The inner stream, ends sorted, the same for both directions. */
  readonly stream: string;
  /** What tells the packet from others: ends in order, IP identification, transport fields. */
  readonly packet: string;
  /** Sequence number of a TCP SYN without ACK; null for others. */
  readonly opens: number | null;
}

const address4 = (b: Buffer, at: number): string => b.subarray(at, at + 4).join('.');

/** Classic pcap, Ethernet, microseconds. */
export function* records(file: string): Generator<{ timeUs: number; bytes: Buffer }> {
  const data = readFileSync(file);
  if (data.readUInt32LE(0) !== 0xa1b2c3d4) throw new Error(`${file}: not a little-endian microsecond pcap`);
  for (let at = 24; at + 16 <= data.length; ) {
    const length = data.readUInt32LE(at + 8);
    yield { timeUs: data.readUInt32LE(at) * 1e6 + data.readUInt32LE(at + 4), bytes: data.subarray(at + 16, at + 16 + length) };
    at += 16 + length;
  }
}

const PCAP_HEADER_BYTES = 24;

/** The datagrams of a frame: a super-frame (UDP segmentation offload) holds many, one behind the other. */
function* datagrams(frame: Buffer): Generator<Buffer> {
  const udp = frame.subarray(34);
  const nsh = udp.readUInt16BE(2) === 4790;
  const end = Math.min(udp.readUInt16BE(4), udp.length);
  for (let at = 8; at < end; ) {
    const stamp = nsh ? 8 + ((udp[at + 9] ?? 0) & 63) * 4 : 8 + ((udp[at] ?? 0) & 63) * 4;
    let ip = at + stamp;
    if (nsh) {
      ip += 12;
      while (ip + 2 <= udp.length && [0x8100, 0x88a8].includes(udp.readUInt16BE(ip))) ip += 4;
      ip += 2;
    }
    if (ip + 6 > udp.length) return yield udp.subarray(at, end);
    const length = (udp[ip] ?? 0) >> 4 === 4 ? udp.readUInt16BE(ip + 2) : 40 + udp.readUInt16BE(ip + 4);
    // What is no IP packet (ARP and the like) fills its datagram.
    const known = [0x0800, 0x86dd].includes(nsh ? udp.readUInt16BE(ip - 2) : udp.readUInt16BE(at + 2));
    const next = known ? ip + length : end;
    yield udp.subarray(at, Math.min(next, end));
    at = next;
  }
}

const isStamped = (frame: Buffer): boolean => frame.length >= 42 && frame.readUInt16BE(12) === 0x0800 && frame[23] === 17 && [4790, 6081].includes(frame.readUInt16BE(36));

/** Writes each datagram of a capture as a frame of its own, as a network card puts them on the wire; at most `most` of them. */
export function onTheWire(file: string, out: string, most: number): void {
  const written = openSync(out, 'w');
  writeSync(written, readFileSync(file).subarray(0, PCAP_HEADER_BYTES));
  let count = 0;
  for (const { timeUs, bytes } of records(file)) {
    if (!isStamped(bytes)) continue;
    for (const datagram of datagrams(bytes)) {
      if (count++ >= most) break;
      const frame = Buffer.concat([bytes.subarray(0, 42), datagram]);
      frame.writeUInt16BE(frame.length - 14, 16);
      frame.writeUInt16BE(frame.length - 34, 38);
      const header = Buffer.alloc(16);
      [Math.floor(timeUs / 1e6), timeUs % 1e6, frame.length, frame.length].forEach((value, i) => header.writeUInt32LE(value, 4 * i));
      writeSync(written, Buffer.concat([header, frame]));
    }
  }
  closeSync(written);
}

function readStamp(datagram: Buffer, port: number): { spi: number; si: number; code: number; inner: Buffer; ethernet: boolean } | null {
  if (port === 4790) {
    const nsh = datagram.subarray(8);
    const length = ((nsh[1] ?? 0) & 63) * 4;
    return { spi: nsh.readUIntBE(4, 3), si: nsh[7] ?? 0, code: nsh.readUInt32BE(12), inner: nsh.subarray(length), ethernet: true };
  }
  const geneve = datagram;
  const length = 8 + ((geneve[0] ?? 0) & 63) * 4;
  let spi = 0;
  let si = 0;
  let code = 0;
  for (let at = 8; at < length; at += 4 + ((geneve[at + 3] ?? 0) & 31) * 4) {
    if (geneve.readUInt16BE(at) !== 0x0108) continue;
    if (geneve[at + 2] === 2) {
      spi = geneve.readUIntBE(at + 7, 3); // attachment: SPI << 16 | SI << 8 | direction
      si = geneve[at + 10] ?? 0;
    } else if (geneve[at + 2] === 3) {
      code = geneve.readUInt32BE(at + 4);
    }
  }
  return { spi, si, code, inner: geneve.subarray(length), ethernet: false };
}

function identify(ip: Buffer): Pick<Arrival, 'stream' | 'packet' | 'opens'> {
  const v4 = (ip[0] ?? 0) >> 4 === 4;
  const protocol = ip[v4 ? 9 : 6] ?? 0;
  const [source, destination] = v4 ? [address4(ip, 12), address4(ip, 16)] : [ip.subarray(8, 24).toString('hex'), ip.subarray(24, 40).toString('hex')];
  const header = v4 ? ((ip[0] ?? 0) & 15) * 4 : 40;
  const l4 = ip.subarray(header);
  const fragment = v4 ? ip.readUInt16BE(6) & 0x3fff : protocol === 44 ? 1 : 0;
  const id = v4 ? ip.readUInt16BE(4) : 0;
  const length = ip.readUInt16BE(v4 ? 2 : 4);
  if (fragment !== 0) return { stream: '', packet: `${source}>${destination} fragment ${id}/${fragment}/${v4 ? '' : l4.subarray(0, 8).toString('hex')}`, opens: null };
  const ports = protocol === 6 || protocol === 17;
  // An echo's identifier stands in both port places: each ping is a stream.
  const [from, to] = ports ? [l4.readUInt16BE(0), l4.readUInt16BE(2)] : [l4.readUInt16BE(4), l4.readUInt16BE(4)];
  const ends = [`${source}:${from}`, `${destination}:${to}`];
  // TCP: sequence, acknowledgement, flags. UDP and ICMP: the whole header, with its checksum.
  const fields = l4.subarray(4, protocol === 6 ? Math.min(l4.length, 20) : 8).toString('hex');
  return { stream: `${protocol} ${[...ends].sort().join(' ')}`, packet: `${protocol} ${ends.join('>')} ${id} ${length} ${fields}`, opens: protocol === 6 && ((l4[13] ?? 0) & 0x12) === 0x02 ? l4.readUInt32BE(4) : null };
}

/** A stamped datagram that holds an IP packet. */
export interface Stamped {
  readonly timeUs: number;
  /** Outer source and destination. */
  readonly from: string;
  readonly to: string;
  readonly spi: number;
  readonly si: number;
  readonly code: number;
  /** The inner packet, as far as it was captured. */
  readonly ip: Buffer;
}

export function* stamped(file: string): Generator<Stamped> {
  for (const { timeUs, bytes } of records(file)) {
    if (!isStamped(bytes)) continue;
    for (const datagram of datagrams(bytes)) {
      const stamp = readStamp(datagram, bytes.readUInt16BE(36));
      if (stamp === null) continue;
      let ip = stamp.inner;
      if (stamp.ethernet) {
        let at = 12;
        while ([0x8100, 0x88a8].includes(ip.readUInt16BE(at))) at += 4;
        if (![0x0800, 0x86dd].includes(ip.readUInt16BE(at))) continue;
        ip = ip.subarray(at + 2);
      }
      const { spi, si, code } = stamp;
      yield { timeUs, from: address4(bytes, 26), to: address4(bytes, 30), spi, si, code, ip };
    }
  }
}

/**
 * TCP connections that a capture saw being opened (IPv4, untagged): how many, SYNs that came again, and resets: of a connection that
 * had not ended both ways, and later ones, with which a kernel answers what was sent again to a socket that is gone.
 */
export function handshakes(file: string): { readonly opened: number; readonly repeated: number; readonly resets: number; readonly lateResets: number } {
  const opened = new Set<string>();
  const ended = new Map<string, Set<string>>();
  let [repeated, resets, lateResets] = [0, 0, 0];
  for (const { bytes } of records(file)) {
    if (bytes.readUInt16BE(12) !== 0x0800 || bytes[23] !== 6) continue;
    const tcp = bytes.subarray(14 + ((bytes[14] ?? 0) & 15) * 4);
    const flags = tcp[13] ?? 0;
    const from = `${address4(bytes, 26)}:${tcp.readUInt16BE(0)}`;
    const to = `${address4(bytes, 30)}:${tcp.readUInt16BE(2)}`;
    const connection = [from, to].sort().join(' ');
    if ((flags & 0x12) === 2) {
      const first = `${connection} ${tcp.readUInt32BE(4)}`;
      if (opened.has(first)) repeated++;
      opened.add(first);
    }
    if ((flags & 1) !== 0) ended.set(connection, (ended.get(connection) ?? new Set()).add(from));
    if ((flags & 4) === 0) continue;
    if ((ended.get(connection)?.size ?? 0) === 2) lateResets++;
    else resets++;
  }
  return { opened: opened.size, repeated, resets, lateResets };
}

function select(file: string, host: string, wanted: (packet: Stamped) => boolean): Arrival[] {
  const found: Arrival[] = [];
  for (const packet of stamped(file)) {
    const { timeUs, from, to, spi, si, code, ip } = packet;
    if (wanted(packet)) found.push({ host, timeUs, from, to, spi, si, code, ...identify(ip) });
  }
  return found;
}

/** Stamped packets on their way to `address`. */
export const arrivals = (file: string, host: string, address: string): Arrival[] => select(file, host, ({ to }) => to === address);

/** Those that the instance at `address` sends back. */
export const replies = (file: string, host: string, address: string): Arrival[] => select(file, host, ({ from }) => from === address);
