/**
 * One TCP connection as a firewall in the middle sees it: which states it is in, and whether a segment can belong to it. Windows as in G. van Rooij,
 * "Real Stateful TCP Packet Filtering in IP Filter" (2001): from what each side has acknowledged and offered follows what the other may
 * send. Segments below the window (late copies) pass and change nothing; those above it can only be forged.
 */
import type { FieldType, FieldValue } from '../../mesh/sync/state-codec.js';
import { u16, u32 } from '../bytes.js';
import type { Packet } from '../packet.js';
import { ACK, FIN, RST, SYN } from '../packet-views.js';

const URG = 32;

export type TcpState = 'opening' | 'answered' | 'established' | 'closing' | 'over';
/** `fresh`: a connection of its own, though its addresses and ports are those of this one. */
export type TcpVerdict = 'belongs' | 'invalid' | 'fresh';

/** What is kept of a side elsewhere, too. */
const SIDE_NUMBERS = ['end', 'limit', 'window', 'scale', 'acknowledged', 'finEnd'] as const;
const SIDE_FLAGS = ['scales', 'hasAcknowledged', 'known', 'fin'] as const;
const STATES = ['opening', 'answered', 'established', 'closing', 'over'] as const;
type Fields = Record<string, FieldValue>;

/** Of a connection's fields. */
export const tcpFields: Readonly<Record<string, FieldType>> = {
  state: 'uint',
  crossed: 'bool',
  reset: 'bool',
  ...Object.fromEntries(['original', 'answer'].flatMap((side) => [...SIDE_NUMBERS.map((name) => [`${side}_${name}`, 'uint']), ...SIDE_FLAGS.map((name) => [`${side}_${name}`, 'bool'])])),
};

class Side {
  /** Behind the highest sequence number it sent. */
  end = 0;
  /** What the other one's acknowledgements and windows let it send. */
  limit = 0;
  /** Largest window it offered, scaled. */
  window = 0;
  scale = 0;
  scales = false;
  /** Highest acknowledgement it sent. */
  acknowledged = 0;
  hasAcknowledged = false;
  known = false;
  fin = false;
  finEnd = 0;
}

const after = (a: number, b: number): boolean => ((a - b) | 0) > 0;

/** Whether the flags make sense together (RFC 9293 section 3.4): SYN alone or with ACK; RST; else ACK, also with FIN. */
export function sensibleFlags(flags: number): boolean {
  const core = flags & (SYN | ACK | FIN | RST);
  if ((flags & URG) !== 0 && (core & RST) !== 0) return false;
  return core === SYN || core === (SYN | ACK) || core === RST || core === (RST | ACK) || core === (FIN | ACK) || core === ACK;
}

export class TcpConnection {
  readonly #original = new Side();
  readonly #answer = new Side();
  #state: TcpState = 'opening';
  /** Both sides opened. */
  #crossed = false;
  #reset = false;

  get state(): TcpState {
    return this.#state;
  }

  save(): Fields {
    const of = (side: Side, prefix: string): [string, FieldValue][] => [...SIDE_NUMBERS, ...SIDE_FLAGS].map((name) => [`${prefix}_${name}`, side[name]]);
    return { state: STATES.indexOf(this.#state), crossed: this.#crossed, reset: this.#reset, ...Object.fromEntries([...of(this.#original, 'original'), ...of(this.#answer, 'answer')]) };
  }

  static load(fields: Readonly<Fields>): TcpConnection {
    const connection = new TcpConnection();
    connection.#state = STATES[Number(fields['state'])] ?? 'over';
    connection.#crossed = fields['crossed'] === true;
    connection.#reset = fields['reset'] === true;
    for (const [side, prefix] of [[connection.#original, 'original'], [connection.#answer, 'answer']] as const) {
      for (const name of SIDE_NUMBERS) side[name] = Number(fields[`${prefix}_${name}`] ?? 0);
      for (const name of SIDE_FLAGS) side[name] = fields[`${prefix}_${name}`] === true;
    }
    return connection;
  }

  /** The segment that opens it: a SYN, or, where connections are picked up in the middle, any with ACK. */
  open(packet: Packet): void {
    this.#learn(this.#original, this.#answer, packet);
    if ((packet.tcpFlags & SYN) === 0) this.#state = 'established';
  }

  /** A further segment. `original`: in the direction of the first. */
  take(packet: Packet, original: boolean): TcpVerdict {
    const { tcpFlags: flags } = packet;
    const before = this.#state;
    if ((flags & SYN) !== 0 && (flags & ACK) === 0) return this.#takeSyn(packet, original);
    if ((flags & RST) !== 0) return this.#takeReset(packet, original);
    if ((flags & SYN) !== 0) {
      // SYN and ACK: the answer to a SYN, or of both sides when both opened; a copy of the answer passes later, too.
      if (original && !this.#crossed) return before === 'answered' ? 'belongs' : 'invalid';
      if (before !== 'opening') return original ? 'invalid' : 'belongs';
    } else if (before === 'opening') {
      // Of a half-open connection the other end may answer with a bare ACK (RFC 9293 section 3.10.7.4); nothing else comes before SYN and ACK.
      return original || (flags & FIN) !== 0 ? 'invalid' : 'belongs';
    }
    if (!this.#learn(original ? this.#original : this.#answer, original ? this.#answer : this.#original, packet)) return 'invalid';
    this.#advance(flags, original);
    return 'belongs';
  }

  #advance(flags: number, original: boolean): void {
    if (this.#state === 'over') return;
    if ((flags & SYN) !== 0) this.#state = 'answered';
    else if ((flags & FIN) !== 0) this.#state = 'closing';
    else if (this.#state === 'answered' && original) this.#state = 'established';
    const [a, b] = [this.#original, this.#answer];
    if (a.fin && b.fin && b.hasAcknowledged && a.hasAcknowledged && !after(a.finEnd, b.acknowledged) && !after(b.finEnd, a.acknowledged)) this.#state = 'over';
  }

  #takeSyn(packet: Packet, original: boolean): TcpVerdict {
    if (original) {
      if (this.#state === 'over') return 'fresh';
      if (this.#state === 'opening') this.#learn(this.#original, this.#answer, packet);
      return 'belongs'; // else the other end answers it with an ACK (RFC 5961 section 4)
    }
    if (this.#state === 'over') return this.#reset ? 'invalid' : 'fresh';
    if (this.#state !== 'opening') return 'invalid';
    this.#crossed = true;
    this.#learn(this.#answer, this.#original, packet);
    return 'belongs';
  }

  #takeReset(packet: Packet, original: boolean): TcpVerdict {
    const { memory, transport } = packet;
    const [sender, receiver] = original ? [this.#original, this.#answer] : [this.#answer, this.#original];
    const sequence = u32(memory, transport + 4);
    let exact = true;
    if (receiver.hasAcknowledged && !(sequence === 0 && this.#state === 'opening')) {
      if (after(receiver.acknowledged, sequence)) return 'invalid';
      // One that does not hit the next byte makes the other end ask (RFC 5961 section 3), and the connection may live on.
      exact = this.#state !== 'established' || sequence === receiver.acknowledged || sequence === sender.end;
    }
    if (sender.known && receiver.window > 0 && after(sequence, sender.limit)) return 'invalid';
    if (exact) {
      this.#state = 'over';
      this.#reset = true;
    }
    return 'belongs';
  }

  /** Takes what the segment says of both sides; false if it is beyond what its sender may send or acknowledge. */
  #learn(sender: Side, receiver: Side, packet: Packet): boolean {
    const { memory, transport, tcpFlags: flags } = packet;
    const sequence = u32(memory, transport + 4);
    const syn = (flags & SYN) !== 0;
    const end = (sequence + packet.payloadLength + (syn ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0)) >>> 0;
    const hasAck = (flags & ACK) !== 0;
    const acknowledged = u32(memory, transport + 8);
    const offered = u16(memory, transport + 14);
    if (syn) this.#readScale(sender, packet);
    const window = syn || !sender.scales || !receiver.scales ? offered : offered * 2 ** sender.scale;
    if (!sender.known || (syn && this.#state === 'opening')) {
      sender.known = true;
      sender.end = end;
      sender.limit = syn ? end : (end + window) >>> 0;
      if (!syn && !receiver.known && hasAck) {
        receiver.known = true;
        receiver.end = receiver.limit = acknowledged;
      }
    }
    if (receiver.window > 0 && after(sequence, sender.limit)) return false;
    if (hasAck && receiver.known && after(acknowledged, receiver.end)) return false;
    if (after(end, sender.end)) sender.end = end;
    if ((flags & FIN) !== 0 && !sender.fin) {
      sender.fin = true;
      sender.finEnd = end;
    }
    sender.window = Math.max(sender.window, window, 1);
    if (hasAck) {
      if (!sender.hasAcknowledged || after(acknowledged, sender.acknowledged)) sender.acknowledged = acknowledged;
      sender.hasAcknowledged = true;
      const limit = (acknowledged + Math.max(window, 1)) >>> 0;
      if (after(limit, receiver.limit)) receiver.limit = limit;
    }
    return true;
  }

  /** RFC 7323: shifts of more than 14 count as 14, and none is used unless both sides have one. */
  #readScale(side: Side, packet: Packet): void {
    const option = packet.tcp?.option(3) ?? null;
    side.scales = option !== null && option.length === 1;
    side.scale = side.scales && option !== null ? Math.min(14, packet.memory[option.at] ?? 0) : 0;
  }
}
