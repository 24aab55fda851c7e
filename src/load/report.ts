/**
 * A load report as it crosses the underlay: one datagram, authenticated with HMAC-SHA-256 and a key that all members share.
 * docs/wire.md has every field. Reading never throws, and says what is wrong.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

/** What an instance says of itself. */
export interface LoadValues {
  /** Null: not known, as with all of these. */
  readonly packetsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
  /** Percent; 100 is one core kept busy. */
  readonly cpu: number | null;
  readonly streams: number | null;
  /** Packets that wait for the service function. */
  readonly queue: number | null;
}

export interface LoadReport extends LoadValues {
  readonly service: string;
  readonly name: string;
  /** Of one run of a process: random. */
  readonly session: bigint;
  /** When it was made, in ms of the epoch by the sender's clock. */
  readonly atMs: number;
  readonly sequence: number;
  /** Until the next one. */
  readonly intervalMs: number;
}

const MAGIC = 0x574c5231; // "WLR1"
const FIXED_BYTES = 66;
const MAC_BYTES = 32;
const MOST_BYTES = FIXED_BYTES + 2 * 63 + MAC_BYTES;
const KNOWS_STREAMS = 1;
const KNOWS_QUEUE = 2;
const KNOWS_CPU = 4;

export const SHORTEST_INTERVAL_MS = 100;
export const LONGEST_INTERVAL_MS = 60_000;

/** Nothing real is over these. */
const MOST: Readonly<Record<keyof LoadValues, number>> = { packetsPerSecond: 1e9, bytesPerSecond: 1e13, cpu: 102_400, streams: 1e9, queue: 1e9 };

export type Refused = { readonly refused: 'malformed' | 'forged' | 'absurd'; readonly why: string };

/** What is wrong with values that somebody measured, or null. */
export function absurdity(values: LoadValues): string | null {
  for (const [key, most] of Object.entries(MOST)) {
    const value = values[key as keyof LoadValues];
    if (value === null) continue;
    if (typeof value !== 'number' || !Number.isFinite(value)) return `${key} is no number`;
    if (value < 0) return `${key} is ${value}, less than 0`;
    if (value > most) return `${key} is ${value}, more than anything can do`;
  }
  return null;
}

const macOf = (key: Uint8Array, bytes: Uint8Array): Buffer => createHmac('sha256', key).update(bytes).digest();

export function encodeReport(report: LoadReport, key: Uint8Array): Buffer {
  const [service, name] = [Buffer.from(report.service), Buffer.from(report.name)];
  const body = Buffer.alloc(FIXED_BYTES);
  body.writeUInt32BE(MAGIC, 0);
  body.writeUInt16BE(FIXED_BYTES + service.length + name.length + MAC_BYTES, 4);
  body.writeUInt16BE((report.streams === null ? 0 : KNOWS_STREAMS) | (report.queue === null ? 0 : KNOWS_QUEUE) | (report.cpu === null ? 0 : KNOWS_CPU), 6);
  body.writeBigUInt64BE(report.session, 8);
  body.writeBigUInt64BE(BigInt(report.atMs), 16);
  body.writeUInt32BE(report.sequence, 24);
  body.writeUInt32BE(report.intervalMs, 28);
  body.writeDoubleBE(report.packetsPerSecond ?? 0, 32);
  body.writeDoubleBE(report.bytesPerSecond ?? 0, 40);
  body.writeDoubleBE(report.cpu ?? 0, 48);
  body.writeUInt32BE(report.streams ?? 0, 56);
  body.writeUInt32BE(report.queue ?? 0, 60);
  body.writeUInt8(service.length, 64);
  body.writeUInt8(name.length, 65);
  const signed = Buffer.concat([body, service, name]);
  return Buffer.concat([signed, macOf(key, signed)]);
}

const malformed = (why: string): Refused => ({ refused: 'malformed', why });

export function decodeReport(datagram: Uint8Array, key: Uint8Array): LoadReport | Refused {
  const b = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  if (b.length < FIXED_BYTES + MAC_BYTES || b.length > MOST_BYTES) return malformed(`it has ${b.length} bytes`);
  if (b.readUInt32BE(0) !== MAGIC) return malformed('it is no load report');
  const [serviceBytes, nameBytes] = [b.readUInt8(64), b.readUInt8(65)];
  const end = FIXED_BYTES + serviceBytes + nameBytes;
  if (b.readUInt16BE(4) !== b.length || end + MAC_BYTES !== b.length) return malformed('its lengths contradict each other');
  if (!timingSafeEqual(macOf(key, b.subarray(0, end)), b.subarray(end))) return { refused: 'forged', why: 'it was not made with the key of load.key' };
  const flags = b.readUInt16BE(6);
  const report: LoadReport = {
    service: b.toString('utf8', FIXED_BYTES, FIXED_BYTES + serviceBytes),
    name: b.toString('utf8', FIXED_BYTES + serviceBytes, end),
    session: b.readBigUInt64BE(8),
    atMs: Number(b.readBigUInt64BE(16)),
    sequence: b.readUInt32BE(24),
    intervalMs: b.readUInt32BE(28),
    packetsPerSecond: b.readDoubleBE(32),
    bytesPerSecond: b.readDoubleBE(40),
    cpu: flags & KNOWS_CPU ? b.readDoubleBE(48) : null,
    streams: flags & KNOWS_STREAMS ? b.readUInt32BE(56) : null,
    queue: flags & KNOWS_QUEUE ? b.readUInt32BE(60) : null,
  };
  const why = absurdity(report);
  if (why !== null) return { refused: 'absurd', why };
  if (report.intervalMs < SHORTEST_INTERVAL_MS || report.intervalMs > LONGEST_INTERVAL_MS) return { refused: 'absurd', why: `its interval is ${report.intervalMs} ms` };
  return report;
}
