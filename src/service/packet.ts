/**
 * A packet as a service function sees it: one object that is moved from packet to packet over the memory native code filled. Nothing is copied,
 * and nothing is made that is not asked for. Every offset was checked against the packet's end when it was read.
 */
import type { Encapsulation } from '../dataplane/native.js';
import { addressText, u16 } from './bytes.js';
import { IcmpView, Ipv4View, Ipv6View, TcpView, UdpView } from './packet-views.js';
import { withPayload } from './rewrite.js';

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMP6 = 58;
/** Protocol of a later fragment over IPv6 until its stream is found: what it says itself counts for nothing (RFC 8200 section 4.5). */
export const UNKNOWN = 0;

const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** Bits of a row's last word (native/node/function_queue.h). */
const GENEVE = 1;
const ETHERNET = 2;
const MOST_TAGS = 2;
/** The transport's header among them: as many as the engine reads (native/engine/packet.cc), or a packet would be steered as one thing and looked at as another. */
const MOST_HEADERS = 12;

const NOTHING = new Uint8Array(0);

/** All of it is valid during the call that it was given to, and no longer: the next packet takes its place. */
export class Packet {
  /** What holds the packet, and others: `start`, `ip`, `transport`, `payloadStart` and `end` are offsets into it. */
  memory: Uint8Array = NOTHING;
  start = 0;
  length = 0;
  /** Stream-affinity code, the same for both directions. */
  code = 0;
  spi = 0;
  si = 0;
  encapsulation: Encapsulation = 'nsh';

  /** 0: no whole IP packet, and then nothing below means anything. */
  version: 0 | 4 | 6 = 0;
  /** Of the IP packet's payload, behind IPv6's extension headers; of a later fragment over IPv6 that of its stream, UNKNOWN where there is none. */
  protocol = 0;
  ip = 0;
  transport = 0;
  payloadStart = 0;
  /** Behind the last byte of the IP packet. */
  end = 0;
  /** Part of a packet: the first part has ports, later ones have not. */
  fragment = false;
  laterFragment = false;
  /** TCP and UDP: ports. ICMP queries: their identifier, twice. Else 0. */
  sourcePort = 0;
  destinationPort = 0;
  /** 0 unless it is TCP. */
  tcpFlags = 0;
  /** An ICMP error: its stream is the one whose packet it quotes. */
  related = false;

  /** As the first packet of the stream travelled; set when the stream is known. */
  original = true;

  // The stream's tuple, as this packet travels: its own, or that of the quoted packet turned round.
  tupleFrom = 0;
  tupleTo = 0;
  tupleFromPort = 0;
  tupleToPort = 0;
  tupleProtocol = 0;
  tuplePorts = true;

  #ending = false;
  #bytes: Uint8Array | null = null;
  #ipv4: Ipv4View | null = null;
  #ipv6: Ipv6View | null = null;
  #tcp: TcpView | null = null;
  #udp: UdpView | null = null;
  #icmp: IcmpView | null = null;

  /** Sent by who opened the stream, as weir's classifier saw it: the path's own SPI is even, that of its answers odd. */
  get fromOpener(): boolean {
    return (this.spi & 1) === 0;
  }

  /** With its Ethernet header under `nsh`, from the IP header on under `geneve`. What is written here is what is forwarded. */
  get bytes(): Uint8Array {
    return (this.#bytes ??= this.memory.subarray(this.start, this.start + this.length));
  }

  /** Behind the transport header; of a later fragment all it carries. */
  get payload(): Uint8Array {
    return this.memory.subarray(this.payloadStart, this.end);
  }

  get payloadLength(): number {
    return this.end - this.payloadStart;
  }

  /** Text, made anew at each call. */
  get source(): string {
    return this.version === 0 ? '' : addressText(this.memory, this.version === 4 ? this.ip + 12 : this.ip + 8, this.version);
  }

  get destination(): string {
    return this.version === 0 ? '' : addressText(this.memory, this.version === 4 ? this.ip + 16 : this.ip + 24, this.version);
  }

  get ipv4(): Ipv4View | null {
    return this.version === 4 ? (this.#ipv4 ??= new Ipv4View(this)) : null;
  }

  get ipv6(): Ipv6View | null {
    return this.version === 6 ? (this.#ipv6 ??= new Ipv6View(this)) : null;
  }

  get tcp(): TcpView | null {
    return this.protocol === TCP && !this.laterFragment ? (this.#tcp ??= new TcpView(this)) : null;
  }

  get udp(): UdpView | null {
    return this.protocol === UDP && !this.laterFragment ? (this.#udp ??= new UdpView(this)) : null;
  }

  /** ICMP and ICMPv6. */
  get icmp(): IcmpView | null {
    return (this.protocol === ICMP || this.protocol === ICMP6) && !this.laterFragment ? (this.#icmp ??= new IcmpView(this)) : null;
  }

  /** A copy with another payload, lengths and checksums right: for `{replace: …}`. TCP and UDP that is no fragment; throws TypeError else. */
  withPayload(payload: Uint8Array): Uint8Array {
    return withPayload(this, payload);
  }

  /** The stream ends with this packet, whatever it is answered with. */
  endStream(): void {
    this.#ending = true;
  }

  get ending(): boolean {
    return this.#ending;
  }

  /** Moves to the packet of `length` bytes at `start`. `path`: SPI << 8 | SI. `kind`: bits 1 geneve, 2 begins with an Ethernet header. */
  place(memory: Uint8Array, start: number, length: number, code: number, path: number, kind: number): void {
    this.memory = memory;
    this.start = start;
    this.length = length;
    this.code = code;
    this.spi = path >>> 8;
    this.si = path & 255;
    this.encapsulation = (kind & GENEVE) === 0 ? 'nsh' : 'geneve';
    this.version = 0;
    this.protocol = this.tupleProtocol = 0;
    this.ip = this.transport = this.payloadStart = this.end = start;
    this.fragment = this.laterFragment = this.related = false;
    this.sourcePort = this.destinationPort = this.tupleFromPort = this.tupleToPort = 0;
    this.tcpFlags = 0;
    this.original = this.tuplePorts = true;
    this.#bytes = null;
    this.#ending = false;
    this.#readNetwork(start + length, (kind & ETHERNET) !== 0);
    if (this.related) return;
    this.tupleProtocol = this.protocol;
    this.tupleFromPort = this.sourcePort;
    this.tupleToPort = this.destinationPort;
  }

  #readNetwork(limit: number, ethernet: boolean): void {
    const { memory } = this;
    let ip = this.start;
    if (ethernet) {
      ip += 14;
      if (ip > limit) return;
      let type = u16(memory, ip - 2);
      for (let tags = 0; tags < MOST_TAGS && (type === 0x8100 || type === 0x88a8 || type === 0x9100); tags++) {
        ip += 4;
        if (ip > limit) return;
        type = u16(memory, ip - 2);
      }
      if (type !== 0x0800 && type !== 0x86dd) return;
    }
    if (limit < ip + 20) return;
    const first = memory[ip] ?? 0;
    if (first >> 4 === 4) {
      const transport = ip + (first & 15) * 4;
      const end = ip + u16(memory, ip + 2);
      if (transport < ip + 20 || transport > end || end > limit) return;
      const fragment = u16(memory, ip + 6) & 0x3fff;
      this.fragment = fragment !== 0;
      this.laterFragment = (fragment & 0x1fff) !== 0;
      this.protocol = memory[ip + 9] ?? 0;
      this.ip = ip;
      this.transport = transport;
      this.end = end;
      this.tupleFrom = ip + 12;
      this.tupleTo = ip + 16;
      if (this.#readTransport()) this.version = 4;
    } else if (first >> 4 === 6) {
      const end = ip + 40 + u16(memory, ip + 4);
      if (end > limit) return;
      this.ip = ip;
      this.end = end;
      this.tupleFrom = ip + 8;
      this.tupleTo = ip + 24;
      const transport = this.#readExtensions(ip, end);
      if (transport === 0) return;
      this.transport = transport;
      if (this.#readTransport()) this.version = 6;
    }
  }

  /** Where the upper header of an IPv6 packet is, 0 if it has none or more headers before it than the engine reads; sets the protocol. */
  #readExtensions(ip: number, end: number, quoted = false): number {
    const { memory } = this;
    let next = memory[ip + 6] ?? 0;
    let at = ip + 40;
    for (let n = 0; n < MOST_HEADERS; n++) {
      if (!isExtension(next)) {
        if (quoted) this.tupleProtocol = next;
        else this.protocol = next;
        return at;
      }
      if (at + 8 > end) return 0;
      const type = next;
      next = memory[at] ?? 0;
      if (type === FRAGMENT) {
        const field = u16(memory, at + 2);
        at += 8;
        if (!quoted) this.fragment = (field & 0xfff9) !== 0; // an atomic fragment is none (RFC 6946)
        if ((field & 0xfff8) !== 0) {
          if (quoted) return 0;
          this.laterFragment = true;
          this.protocol = UNKNOWN;
          return at;
        }
      } else {
        const words = memory[at + 1] ?? 0;
        at += type === AUTHENTICATION ? (words + 2) * 4 : (words + 1) * 8;
      }
      if (at > end) return 0;
    }
    return 0;
  }

  /** False if the packet is too short for what it says it is. */
  #readTransport(): boolean {
    const { memory, transport, end, protocol } = this;
    this.payloadStart = transport;
    if (this.laterFragment) {
      this.tuplePorts = false;
      return true;
    }
    if (protocol === TCP) {
      if (transport + 20 > end) return false;
      const payload = transport + ((memory[transport + 12] ?? 0) >> 4) * 4;
      if (payload < transport + 20 || payload > end) return false;
      this.payloadStart = payload;
      this.tcpFlags = memory[transport + 13] ?? 0;
    } else if (protocol === UDP) {
      if (transport + 8 > end) return false;
      this.payloadStart = transport + 8;
    } else if (protocol === ICMP || protocol === ICMP6) {
      if (transport + 8 > end) return false;
      this.payloadStart = transport + 8;
      const type = memory[transport] ?? 0;
      if (protocol === ICMP ? isQuery4(type) : type === 128 || type === 129) {
        this.sourcePort = this.destinationPort = u16(memory, transport + 4);
      } else if (protocol === ICMP ? isError4(type) : type < 128) {
        this.#readQuoted(transport + 8);
      }
      return true;
    } else {
      return true;
    }
    this.sourcePort = u16(memory, transport);
    this.destinationPort = u16(memory, transport + 2);
    return true;
  }

  /** The tuple of the packet that an ICMP error quotes, turned round: the error travels with the stream's answers. */
  #readQuoted(at: number): void {
    const { memory, end } = this;
    if (at + 20 > end) return;
    const first = memory[at] ?? 0;
    let transport: number;
    if (first >> 4 === 4 && this.protocol === ICMP) {
      transport = at + (first & 15) * 4;
      if (transport < at + 20 || (u16(memory, at + 6) & 0x1fff) !== 0) return;
      this.tupleProtocol = memory[at + 9] ?? 0;
    } else if (first >> 4 === 6 && this.protocol === ICMP6 && at + 40 <= end) {
      transport = this.#readExtensions(at, end, true);
      if (transport === 0) return;
    } else {
      return;
    }
    if (transport + 8 > end) return;
    const { tupleProtocol } = this;
    if (tupleProtocol === TCP || tupleProtocol === UDP) {
      this.tupleFromPort = u16(memory, transport + 2);
      this.tupleToPort = u16(memory, transport);
    } else if (tupleProtocol === ICMP ? isQuery4(memory[transport] ?? 0) : tupleProtocol === ICMP6 && ((memory[transport] ?? 0) | 1) === 129) {
      this.tupleFromPort = this.tupleToPort = u16(memory, transport + 4);
    } else {
      return;
    }
    this.related = true;
    this.tupleFrom = this.protocol === ICMP ? at + 16 : at + 24;
    this.tupleTo = this.protocol === ICMP ? at + 12 : at + 8;
  }
}

/** What is walked over to find the transport (RFC 8200 section 4, RFC 7045): the list of native/wire/ip.h, the fragment header and AH. */
const isExtension = (next: number): boolean =>
  next === 0 || next === 43 || next === FRAGMENT || next === AUTHENTICATION || next === 60 || next === 135 || next === 139 || next === 140;
/** Echo, timestamp, information, address mask: what has an identifier (RFC 792, RFC 950). */
const isQuery4 = (type: number): boolean => type === 0 || type === 8 || (type >= 13 && type <= 18);
/** Destination unreachable, source quench, redirect, time exceeded, parameter problem. */
const isError4 = (type: number): boolean => type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
