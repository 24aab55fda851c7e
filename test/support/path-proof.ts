/**
 * Proves from captures at the instances that every packet belongs wholly to one version of one chain: it visited all services of that
 * path, in order (answers backwards), none twice, none of another path; and that a connection on one path always met the same instance
 * of a service (a port that is used again is another one, and weights may have changed since). Takes from weir only which services an
 * SPI stands for. Holds millions of packets: rows of numbers, no objects.
 */
import { stamped } from './stamped-capture.js';

export interface KnownPath {
  readonly id: number;
  readonly services: readonly string[];
}

export interface Verdict {
  /** Packets that went through all of their path. */
  readonly packets: number;
  readonly arrivals: number;
  readonly streams: number;
  /** Paths that carried packets. */
  readonly paths: number;
  /** Seen at the first hops and then no more: lost, or under way when a capture ended. */
  readonly incomplete: number;
  /** Not seen at a hop before one where they were seen, at hosts whose capture lost some: nothing can be said of these. */
  readonly unseen: number;
  /** Packets by the services that they went through, `firewall > ids`. */
  readonly orders: ReadonlyMap<string, number>;
  /** The first ones, in words, and how many there are. */
  readonly violations: readonly string[];
  readonly violationCount: number;
}

const MOST_SAID = 20;
/** The inner headers with TCP's options: nothing on the way through instances that pass packets on changes them. */
const IDENTITY_BYTES = 72;

/** 53 bits of two 32-bit hashes (FNV-1a, and one with another prime and order). */
function hash(bytes: Buffer, from: number, to: number, seed: number): number {
  let a = 0x811c9dc5 ^ seed;
  let b = 0x9747b28c ^ seed;
  for (let i = from; i < to; i++) {
    const byte = bytes[i] ?? 0;
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul((b << 5) ^ (b >>> 27) ^ byte, 0x85ebca6b);
  }
  return ((b ^ (b >>> 15)) & 0x1fffff) * 2 ** 32 + ((a ^ (a >>> 13)) >>> 0);
}

/** Of both directions the same: ends sorted. */
function streamOf(ip: Buffer): number {
  const header = ((ip[0] ?? 0) & 15) * 4;
  const ends = [ip.subarray(12, 16), ip.subarray(16, 20)].map((address, i) => Buffer.concat([address, ip.subarray(header + 2 * i, header + 2 * i + 2)]));
  return hash(Buffer.concat(ends.sort((a, b) => a.compare(b))), 0, 12, ip[9] ?? 0);
}

/** A TCP segment that opens a connection: its sequence number; else null. */
function opens(ip: Buffer): number | null {
  const header = ((ip[0] ?? 0) & 15) * 4;
  return ip[9] === 6 && ip.length >= header + 14 && ((ip[header + 13] ?? 0) & 0x12) === 0x02 ? ip.readUInt32BE(header + 4) : null;
}

export class PathProof {
  readonly #identity: number[] = [];
  readonly #stream: number[] = [];
  readonly #timeUs: number[] = [];
  /** SPI * 256 + SI. */
  readonly #place: number[] = [];
  readonly #host: number[] = [];
  /**
   * Without an identification of its own (0). Linux sends such where it has no socket for a segment, or half of one: resets, SYN-ACKs,
   * ACKs of a closed connection. Within a millisecond, by TCP's time stamp, one is like the next.
   */
  readonly #unnumbered: boolean[] = [];
  /** Of each stream: by the sequence number that a connection begins with, when it was seen first. */
  readonly #opened = new Map<number, Map<number, number>>();
  readonly #hosts: { readonly name: string; readonly service: string; readonly dropped: number }[] = [];

  /** What arrived at one instance. IPv4 only: its identification tells a packet from its retransmission. Returns how many datagrams. */
  add(file: string, host: { readonly name: string; readonly service: string; readonly address: string; readonly dropped: number }): number {
    const number = this.#hosts.push(host) - 1;
    const before = this.#identity.length;
    for (const { to, timeUs, spi, si, ip } of stamped(file)) {
      if (to !== host.address || (ip[0] ?? 0) >> 4 !== 4) continue;
      const stream = streamOf(ip);
      const first = opens(ip);
      if (first !== null) this.#open(stream, first, timeUs);
      this.#identity.push(hash(ip, 0, Math.min(ip.length, IDENTITY_BYTES), ip.readUInt16BE(2)));
      this.#stream.push(stream);
      this.#timeUs.push(timeUs);
      this.#place.push(spi * 256 + si);
      this.#host.push(number);
      this.#unnumbered.push(ip.readUInt16BE(4) === 0);
    }
    return this.#identity.length - before;
  }

  #open(stream: number, sequence: number, timeUs: number): void {
    const all = this.#opened.get(stream) ?? new Map<number, number>();
    this.#opened.set(stream, all);
    all.set(sequence, Math.min(timeUs, all.get(sequence) ?? Infinity));
  }

  /** Which of the stream's connections a packet is of that was seen then. */
  #connection(stream: number, timeUs: number): number {
    return [...(this.#opened.get(stream)?.values() ?? [])].filter((openedUs) => openedUs <= timeUs).length;
  }

  /**
   * `crossing`: a packet that was at an instance while its stream was moved goes on by the stream's new path, as behind Geneve, whose
   * returned header says only whose stream it is. Its visits have to be those of the new path all the same.
   */
  judge(known: ReadonlyMap<number, KnownPath>, { crossing = false } = {}): Verdict {
    const [identity, timeUs] = [this.#identity, this.#timeUs];
    const order = Uint32Array.from(identity, (_, i) => i).sort((a, b) => (identity[a] ?? 0) - (identity[b] ?? 0) || (timeUs[a] ?? 0) - (timeUs[b] ?? 0));
    const said: string[] = [];
    const tally = { packets: 0, incomplete: 0, unseen: 0, wrong: 0 };
    const orders = new Map<string, number>();
    const paths = new Set<number>();
    /** Of a stream's path and a service: the row of a packet there. */
    const instanceOf = new Map<string, number>();
    const violation = (text: string): void => void (++tally.wrong <= MOST_SAID && said.push(text));
    for (let from = 0, to = 0; from < order.length; from = to) {
      while (to < order.length && identity[order[to] ?? 0] === identity[order[from] ?? 0]) to++;
      const rows = [...order.subarray(from, to)];
      const judged = { violation, tally, orders, paths, instanceOf };
      // Of those without a number of their own there may be several, one after the other, between which the stream was moved.
      const spiOf = (row: number): number | null => (this.#unnumbered[row] === true ? Math.floor((this.#place[row] ?? 0) / 256) : null);
      for (const spi of new Set(rows.map(spiOf))) this.#judgePacket(rows.filter((row) => spiOf(row) === spi), known, crossing, judged);
    }
    return { packets: tally.packets, arrivals: order.length, streams: new Set(this.#stream).size, paths: paths.size, incomplete: tally.incomplete, unseen: tally.unseen, orders, violations: said, violationCount: tally.wrong };
  }

  #judgePacket(
    rows: readonly number[],
    known: ReadonlyMap<number, KnownPath>,
    crossing: boolean,
    { violation, tally, orders, paths, instanceOf }: { violation: (text: string) => void; tally: { packets: number; incomplete: number; unseen: number }; orders: Map<string, number>; paths: Set<number>; instanceOf: Map<string, number> },
  ): void {
    const seen = rows.map((row) => {
      const place = this.#place[row] ?? 0;
      return { row, spi: Math.floor(place / 256), step: 255 - (place % 256), host: this.#host[row] ?? 0, timeUs: this.#timeUs[row] ?? 0 };
    });
    const way = (): string => seen.map(({ spi, step, host, timeUs }) => `${this.#hosts[host]?.name} (SPI ${spi}, hop ${step + 1}, ${timeUs} µs)`).join(', ');
    const spi = seen[0]?.spi ?? 0;
    if (seen.some((other) => other.spi !== spi)) {
      const end = seen.at(-1)?.spi ?? 0;
      const services = known.get(Math.floor(end / 2))?.services ?? [];
      const wanted = end % 2 === 0 ? services : services.toReversed();
      if (!crossing || seen.some(({ host }, i) => this.#hosts[host]?.service !== wanted[i])) return violation(`a packet of two path versions: ${way()}`);
      if (seen.length < wanted.length) return void tally.incomplete++;
      tally.packets++;
      orders.set(wanted.join(' > '), (orders.get(wanted.join(' > ')) ?? 0) + 1);
      return;
    }
    const path = known.get(Math.floor(spi / 2));
    if (path === undefined) return violation(`nobody told of SPI ${spi}: ${way()}`);
    const services = spi % 2 === 0 ? path.services : path.services.toReversed();
    const at: number[] = Array.from({ length: services.length }, () => 0);
    const stream = this.#stream[rows[0] ?? 0] ?? 0;
    const connection = this.#connection(stream, seen[0]?.timeUs ?? 0);
    for (const { row, step, host } of seen) {
      const service = this.#hosts[host]?.service ?? '';
      if (services[step] !== service) return violation(`${this.#hosts[host]?.name} performs ${service}, and hop ${step + 1} of [${services.join(', ')}] is not that: ${way()}`);
      at[step] = (at[step] ?? 0) + 1;
      const key = `${stream} ${connection} ${path.id} ${service}`;
      const before = instanceOf.get(key);
      if (before === undefined) instanceOf.set(key, row);
      else if (this.#host[before] !== host) return violation(`a stream met ${this.#hosts[this.#host[before] ?? 0]?.name} (at ${this.#timeUs[before]} µs) and ${this.#hosts[host]?.name} on one path: ${way()}`);
    }
    const twins = this.#unnumbered[rows[0] ?? 0] === true;
    if (at.some((times, step) => times > (twins ? (at[step - 1] ?? times) : 1))) return violation(`doubled: ${way()}`);
    paths.add(path.id);
    const last = at.findLastIndex((times) => times > 0);
    const skipped = services.filter((_, step) => step < last && at[step] === 0);
    if (skipped.length > 0) {
      if (skipped.every((service) => this.#hosts.some((host) => host.service === service && host.dropped > 0))) tally.unseen++;
      else violation(`${skipped.join(', ')} of [${services.join(', ')}] skipped: ${way()}`);
      return;
    }
    if (!twins && seen.some(({ step }, i) => i > 0 && step < (seen[i - 1]?.step ?? 0)) && seen.toSorted((a, b) => a.step - b.step).some(({ timeUs }, i, list) => i > 0 && timeUs < (list[i - 1]?.timeUs ?? 0))) return violation(`out of order: ${way()}`);
    if (last < services.length - 1) {
      tally.incomplete++;
      return;
    }
    tally.packets++;
    const order = services.join(' > ');
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
}
