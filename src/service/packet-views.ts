/** The headers of a packet by name. Each view belongs to a Packet and moves with it. Fields are as in the RFCs. */
import { addressText, u16, u32 } from './bytes.js';

/** Of a Packet, what a view needs. */
interface Place {
  readonly memory: Uint8Array;
  readonly ip: number;
  readonly transport: number;
  readonly end: number;
}

abstract class View {
  constructor(protected readonly place: Place) {}
}

/** RFC 791. */
export class Ipv4View extends View {
  get headerLength(): number {
    return this.place.transport - this.place.ip;
  }
  get dscp(): number {
    return (this.place.memory[this.place.ip + 1] ?? 0) >> 2;
  }
  get totalLength(): number {
    return u16(this.place.memory, this.place.ip + 2);
  }
  get identification(): number {
    return u16(this.place.memory, this.place.ip + 4);
  }
  get dontFragment(): boolean {
    return ((this.place.memory[this.place.ip + 6] ?? 0) & 0x40) !== 0;
  }
  get ttl(): number {
    return this.place.memory[this.place.ip + 8] ?? 0;
  }
  get protocol(): number {
    return this.place.memory[this.place.ip + 9] ?? 0;
  }
  get source(): string {
    return addressText(this.place.memory, this.place.ip + 12, 4);
  }
  get destination(): string {
    return addressText(this.place.memory, this.place.ip + 16, 4);
  }
}

/** RFC 8200. */
export class Ipv6View extends View {
  get trafficClass(): number {
    return (u16(this.place.memory, this.place.ip) >> 4) & 255;
  }
  get flowLabel(): number {
    return u32(this.place.memory, this.place.ip) & 0xfffff;
  }
  get payloadLength(): number {
    return u16(this.place.memory, this.place.ip + 4);
  }
  /** Of the first header behind this one; `packet.protocol` is that of the payload. */
  get nextHeader(): number {
    return this.place.memory[this.place.ip + 6] ?? 0;
  }
  get hopLimit(): number {
    return this.place.memory[this.place.ip + 7] ?? 0;
  }
  get source(): string {
    return addressText(this.place.memory, this.place.ip + 8, 6);
  }
  get destination(): string {
    return addressText(this.place.memory, this.place.ip + 24, 6);
  }
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

/** RFC 9293. */
export class TcpView extends View {
  get sourcePort(): number {
    return u16(this.place.memory, this.place.transport);
  }
  get destinationPort(): number {
    return u16(this.place.memory, this.place.transport + 2);
  }
  get sequence(): number {
    return u32(this.place.memory, this.place.transport + 4);
  }
  get acknowledgement(): number {
    return u32(this.place.memory, this.place.transport + 8);
  }
  get headerLength(): number {
    return ((this.place.memory[this.place.transport + 12] ?? 0) >> 4) * 4;
  }
  /** FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128. */
  get flags(): number {
    return this.place.memory[this.place.transport + 13] ?? 0;
  }
  get syn(): boolean {
    return (this.flags & SYN) !== 0;
  }
  get ack(): boolean {
    return (this.flags & ACK) !== 0;
  }
  get fin(): boolean {
    return (this.flags & FIN) !== 0;
  }
  get rst(): boolean {
    return (this.flags & RST) !== 0;
  }
  /** As it stands in the header, not scaled. */
  get window(): number {
    return u16(this.place.memory, this.place.transport + 14);
  }
  /** Offset and length of an option's data in the packet's memory; null if it is not there or the options are broken. */
  option(kind: number): { readonly at: number; readonly length: number } | null {
    const { memory, transport } = this.place;
    const end = transport + this.headerLength;
    for (let at = transport + 20; at < end; ) {
      const found = memory[at] ?? 0;
      if (found === 0) return null;
      if (found === 1) {
        at++;
        continue;
      }
      const length = at + 1 < end ? (memory[at + 1] ?? 0) : 0;
      if (length < 2 || at + length > end) return null;
      if (found === kind) return { at: at + 2, length: length - 2 };
      at += length;
    }
    return null;
  }
}

/** RFC 768. */
export class UdpView extends View {
  get sourcePort(): number {
    return u16(this.place.memory, this.place.transport);
  }
  get destinationPort(): number {
    return u16(this.place.memory, this.place.transport + 2);
  }
  get length(): number {
    return u16(this.place.memory, this.place.transport + 4);
  }
}

/** RFC 792, RFC 4443. */
export class IcmpView extends View {
  get type(): number {
    return this.place.memory[this.place.transport] ?? 0;
  }
  get code(): number {
    return this.place.memory[this.place.transport + 1] ?? 0;
  }
  /** Of queries. */
  get identifier(): number {
    return u16(this.place.memory, this.place.transport + 4);
  }
  get sequence(): number {
    return u16(this.place.memory, this.place.transport + 6);
  }
}
