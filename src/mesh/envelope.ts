/**
 * What members of a mesh say to each other: one datagram, authenticated with HMAC-SHA-256 as load reports are, from one run of a process to
 * another. docs/wire.md has every field. Reading never throws, and says what is wrong.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

const MAGIC = 0x574d5331; // "WMS1"
const HEADER_BYTES = 40;
const MAC_BYTES = 32;
/** UDP over IPv4. */
const MOST_BYTES = 65_507;
export const MOST_BODY_BYTES = MOST_BYTES - HEADER_BYTES - MAC_BYTES;

export const KINDS = { hello: 1, welcome: 2, map: 3, sync: 4, ack: 5 } as const;
export type Kind = keyof typeof KINDS;
const NAMES = new Map<number, Kind>(Object.entries(KINDS).map(([name, number]) => [number, name as Kind]));

/** A run of a process: 16 hexadecimal digits, random. */
export type Session = string;
/** Where the other one's is not known yet. */
export const NOBODY: Session = '0000000000000000';

export interface Envelope {
  readonly kind: Kind;
  readonly from: Session;
  readonly to: Session;
  /** Goes up with each datagram of a sender. */
  readonly sequence: number;
  readonly atMs: number;
  readonly body: Buffer;
}

export type Unreadable = { readonly refused: 'malformed' | 'forged'; readonly why: string };

export function seal({ kind, from, to, sequence, atMs, body }: Envelope, key: Uint8Array): Buffer {
  const datagram = Buffer.alloc(HEADER_BYTES + body.length + MAC_BYTES);
  datagram.writeUInt32BE(MAGIC, 0);
  datagram.writeUInt8(KINDS[kind], 4);
  datagram.write(from, 8, 'hex');
  datagram.write(to, 16, 'hex');
  datagram.writeBigUInt64BE(BigInt(sequence), 24);
  datagram.writeBigUInt64BE(BigInt(Math.max(0, Math.trunc(atMs))), 32);
  body.copy(datagram, HEADER_BYTES);
  const end = HEADER_BYTES + body.length;
  createHmac('sha256', key).update(datagram.subarray(0, end)).digest().copy(datagram, end);
  return datagram;
}

export function open(datagram: Uint8Array, key: Uint8Array): Envelope | Unreadable {
  const b = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const end = b.length - MAC_BYTES;
  if (end < HEADER_BYTES || b.length > MOST_BYTES) return { refused: 'malformed', why: `it has ${b.length} bytes` };
  if (b.readUInt32BE(0) !== MAGIC) return { refused: 'malformed', why: 'it is no message of a mesh' };
  const kind = NAMES.get(b.readUInt8(4));
  if (kind === undefined) return { refused: 'malformed', why: `its kind is ${b.readUInt8(4)}` };
  if (!timingSafeEqual(createHmac('sha256', key).update(b.subarray(0, end)).digest(), b.subarray(end))) return { refused: 'forged', why: 'it was not made with the key of mesh.key' };
  return {
    kind,
    from: b.toString('hex', 8, 16),
    to: b.toString('hex', 16, 24),
    sequence: Number(b.readBigUInt64BE(24)),
    atMs: Number(b.readBigUInt64BE(32)),
    body: b.subarray(HEADER_BYTES, end),
  };
}
