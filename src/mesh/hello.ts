/** What a node says of itself, and pieces of a map: the bodies of messages. Reading says null where it makes no sense. */

/** Of states that another instance is to keep, too: what it does not have yet. */
export interface SyncReport {
  /** For how long the oldest change has been waiting. */
  readonly lagMs: number;
  readonly waitingStreams: number;
  /** Of a fill: streams whose state is still to be said. */
  readonly fillStreams: number;
  /** States that nobody else could keep though packets were to wait for that, since the function began. */
  readonly unprotected: number;
}

export interface Hello {
  readonly service: string;
  readonly name: string;
  readonly syncPort: number;
  /** Of the map that it has; 0: none. */
  readonly version: number;
  readonly digest: string;
  /** ICMP "unreachable" about what it sent to others, by `service/instance`, since it started. */
  readonly unreachable: readonly (readonly [key: string, count: number])[];
  /** Null: it keeps no state twice. A node of an older version does not say. */
  readonly sync?: SyncReport | null;
}

/** Instances that a hello says something of. */
const MOST_UNREACHABLE = 100;

export const encodeHello = (hello: Hello): Buffer => Buffer.from(JSON.stringify({ ...hello, unreachable: hello.unreachable.slice(0, MOST_UNREACHABLE) }));

export function decodeHello(body: Uint8Array): Hello | null {
  try {
    const hello = JSON.parse(Buffer.from(body).toString('utf8')) as Hello;
    const { service, name, syncPort, version, digest, unreachable, sync = null } = hello;
    const texts = [service, name, digest].every((text) => typeof text === 'string' && text.length <= 64);
    const numbers = [syncPort, version].every((number) => Number.isSafeInteger(number) && number >= 0) && syncPort < 65_536;
    const pairs = Array.isArray(unreachable) && unreachable.length <= MOST_UNREACHABLE && unreachable.every(([key, count]) => typeof key === 'string' && Number.isSafeInteger(count) && count >= 0);
    return texts && numbers && pairs && (sync === null || isReport(sync)) ? { ...hello, sync } : null;
  } catch {
    return null;
  }
}

const isReport = ({ lagMs, waitingStreams, fillStreams, unprotected }: SyncReport): boolean => [lagMs, waitingStreams, fillStreams, unprotected].every((number) => Number.isSafeInteger(number) && number >= 0);

/** A part of an encoded map, so that each fits a packet of the underlay. */
export interface MapPiece {
  readonly version: number;
  readonly digest: string;
  readonly index: number;
  readonly count: number;
  readonly bytes: Buffer;
}

const PIECE_HEADER = 20;
const PIECE_BYTES = 1200;

export function piecesOf(encoded: Buffer, version: number, digest: string): Buffer[] {
  const count = Math.max(1, Math.ceil(encoded.length / PIECE_BYTES));
  return Array.from({ length: count }, (_, index) => {
    const part = encoded.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
    const piece = Buffer.alloc(PIECE_HEADER + part.length);
    piece.writeBigUInt64BE(BigInt(version), 0);
    piece.write(digest, 8, 'hex');
    piece.writeUInt16BE(index, 16);
    piece.writeUInt16BE(count, 18);
    part.copy(piece, PIECE_HEADER);
    return piece;
  });
}

export function decodePiece(body: Buffer): MapPiece | null {
  if (body.length < PIECE_HEADER || body.length > PIECE_HEADER + PIECE_BYTES) return null;
  const [index, count] = [body.readUInt16BE(16), body.readUInt16BE(18)];
  if (count === 0 || index >= count) return null;
  return { version: Number(body.readBigUInt64BE(0)), digest: body.toString('hex', 8, 16), index, count, bytes: body.subarray(PIECE_HEADER) };
}
