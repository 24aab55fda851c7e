/**
 * What weir and the members of a group with a primary node say to each other: one datagram, JSON between a header and an HMAC-SHA-256 with
 * the key of load reports. docs/wire.md has the fields. Reading never throws, and says what is wrong.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

const MAGIC = 0x57475031; // "WGP1"
const HEADER_BYTES = 4;
const MAC_BYTES = 32;
/** So that a group of a thousand members still is one datagram. */
export const MOST_BYTES = 65_000;
/** Clocks may differ by this much; a message that was recorded can be played back no longer than this. */
export const MOST_SKEW_MS = 30_000;

/** A member to weir, and to the primary. */
export interface Hello {
  readonly kind: 'hello';
  readonly service: string;
  readonly name: string;
  /** Of one run of a process: random. */
  readonly session: string;
  readonly atMs: number;
  /** Percent of a core; null: unknown. */
  readonly cpu: number | null;
  readonly packetsPerSecond: number;
  /** Number of the roster that it has; 0: none. */
  readonly roster: number;
  /** Of a primary: shares of new streams that it gives, by name. */
  readonly shares: Readonly<Record<string, number>> | null;
  /** Streams that it has decided as the primary. */
  readonly chosen: number;
}

export interface RosterMember {
  readonly name: string;
  readonly address: string;
  /** Where it says hello from; null: it has not said so yet. */
  readonly port: number | null;
  readonly state: 'up' | 'draining' | 'down';
  readonly weight: number;
}

/** Weir to a member: who there is, first in rank first. */
export interface Roster {
  readonly kind: 'roster';
  readonly service: string;
  /** Run of the member that it is for. */
  readonly to: string;
  readonly atMs: number;
  /** Goes up with every change. */
  readonly number: number;
  /** Null: nobody can be it now. */
  readonly primary: string | null;
  /** Whether the primary gets all new streams and directs them; else it only says what shares there are. */
  readonly directs: boolean;
  /** What is to be even; null: shares are those of the weights. */
  readonly metric: 'cpu' | 'packets_per_second' | null;
  readonly members: readonly RosterMember[];
}

export type GroupMessage = Hello | Roster;
export type Unreadable = { readonly refused: 'malformed' | 'forged'; readonly why: string };

export function seal(message: GroupMessage, key: Uint8Array): Buffer {
  const body = Buffer.from(JSON.stringify(message));
  const signed = Buffer.alloc(HEADER_BYTES + body.length);
  signed.writeUInt32BE(MAGIC, 0);
  body.copy(signed, HEADER_BYTES);
  return Buffer.concat([signed, createHmac('sha256', key).update(signed).digest()]);
}

export const isGroupMessage = (datagram: Uint8Array): boolean => datagram.length >= HEADER_BYTES && Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength).readUInt32BE(0) === MAGIC;

export function open(datagram: Uint8Array, key: Uint8Array): GroupMessage | Unreadable {
  const b = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const end = b.length - MAC_BYTES;
  if (end <= HEADER_BYTES || b.length > MOST_BYTES || !isGroupMessage(b)) return { refused: 'malformed', why: 'it is no message of a group' };
  if (!timingSafeEqual(createHmac('sha256', key).update(b.subarray(0, end)).digest(), b.subarray(end))) return { refused: 'forged', why: 'it was not made with the key of load.key' };
  try {
    const message = JSON.parse(b.toString('utf8', HEADER_BYTES, end)) as GroupMessage;
    if (message.kind === 'hello' ? isHello(message) : isRoster(message)) return message;
  } catch {
    // Said below.
  }
  return { refused: 'malformed', why: 'it makes no sense' };
}

const isName = (value: unknown): boolean => typeof value === 'string' && value.length > 0 && value.length <= 63;
const isNumber = (value: unknown, most: number): boolean => typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= most;
const isSession = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);

function isHello({ service, name, session, atMs, cpu, packetsPerSecond, roster, shares, chosen }: Hello): boolean {
  const sharesFine = shares === null || (typeof shares === 'object' && Object.entries(shares).every(([of, share]) => isName(of) && isNumber(share, 1)));
  return isName(service) && isName(name) && isSession(session) && isNumber(atMs, Number.MAX_SAFE_INTEGER) && (cpu === null || isNumber(cpu, 102_400)) && isNumber(packetsPerSecond, 1e9) && Number.isSafeInteger(roster) && isNumber(chosen, Number.MAX_SAFE_INTEGER) && sharesFine;
}

function isRoster({ kind, service, to, atMs, number, primary, directs, metric, members }: Roster): boolean {
  const membersFine = Array.isArray(members) && members.every(({ name, address, port, state, weight }) => isName(name) && typeof address === 'string' && (port === null || isNumber(port, 65_535)) && ['up', 'draining', 'down'].includes(state) && isNumber(weight, 65_535) && weight >= 1);
  return kind === 'roster' && typeof directs === 'boolean' && isName(service) && isSession(to) && isNumber(atMs, Number.MAX_SAFE_INTEGER) && Number.isSafeInteger(number) && (primary === null || isName(primary)) && (metric === null || metric === 'cpu' || metric === 'packets_per_second') && membersFine;
}
