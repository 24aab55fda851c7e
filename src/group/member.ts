/**
 * A node's side of a group with a primary node: says hello to weir and to the primary, takes the roster that weir sends, and has native code
 * direct, hand back and serve by it.
 */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { SYSTEM_CLOCK } from '../conditions/clock.js';
import { canonical, isIpv4 } from '../config/address.js';
import { native, type NativeGroup } from '../dataplane/native.js';
import { Neighbours } from '../dataplane/neighbours.js';
import { same } from '../config/share.js';
import type { Logger } from '../observe/log.js';
import { instanceKey, instanceSeed } from '../program/compile.js';
import { MOST_SKEW_MS, open, seal, type Hello, type Roster } from './message.js';
import { partsOf, Shares } from './shares.js';

const INTERVAL_MS = 200;
/** A roster of another forwarder counts when the first one has been silent for so long. */
const SILENT_MS = 3000;

export interface Place {
  readonly address: string;
  readonly port: number;
}

export interface MemberOptions {
  readonly service: string;
  readonly name: string;
  readonly interface: string;
  /** Own, on the underlay. */
  readonly address: string;
  /** The first one that speaks says who is in the group. */
  readonly forwarders: readonly Place[];
  readonly key: Uint8Array;
  readonly load: () => { readonly cpu: number | null; readonly packetsPerSecond: number };
  readonly chosen: () => number;
  /** Puts a group into force. */
  readonly join: (group: NativeGroup) => void;
}

export class GroupMember {
  readonly #socket: Socket;
  readonly #session = randomBytes(8).toString('hex');
  readonly #shares = new Shares(SYSTEM_CLOCK);
  readonly #ids = new Map<string, number>();
  readonly #neighbours: Neighbours;
  readonly #heardFrom = new Map<string, number>();
  #roster: Roster | null = null;
  #joined: NativeGroup | null = null;
  #timer: NodeJS.Timeout | null = null;
  #warned = false;

  private constructor(
    private readonly options: MemberOptions,
    private readonly log: Logger,
  ) {
    this.#ids.set(options.name, 0);
    this.#neighbours = new Neighbours(() => [native.interfaceInfo(options.interface)]);
    this.#socket = createSocket(isIpv4(options.address) ? 'udp4' : 'udp6');
  }

  static async start(options: MemberOptions, log: Logger): Promise<GroupMember> {
    const member = new GroupMember(options, log);
    const socket = member.#socket;
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: options.address, port: 0, exclusive: true }, resolve);
    });
    socket.removeAllListeners('error').on('error', () => undefined);
    socket.on('message', (datagram, { address }) => member.#receive(datagram, canonical(address.split('%')[0] ?? address)));
    member.#timer = setInterval(() => member.#round(), INTERVAL_MS);
    member.#round();
    return member;
  }

  get role(): 'primary' | 'secondary' | 'alone' {
    return this.#roster === null ? 'alone' : this.#isPrimary ? 'primary' : 'secondary';
  }

  get #isPrimary(): boolean {
    return this.#roster?.primary === this.options.name;
  }

  #round(): void {
    const { service, name, forwarders, load, chosen, key } = this.options;
    const roster = this.#roster;
    const shares = roster !== null && this.#isPrimary ? partsOf(this.#shares.weights(roster)) : null;
    const hello: Hello = { kind: 'hello', service, name, session: this.#session, atMs: Date.now(), ...load(), roster: roster?.number ?? 0, shares, chosen: chosen() };
    if (this.#isPrimary) this.#shares.hear(hello);
    const datagram = seal(hello, key);
    const primary = roster?.members.find((member) => member.name === roster.primary);
    const to = primary === undefined || primary.port === null || this.#isPrimary ? forwarders : [...forwarders, { address: primary.address, port: primary.port }];
    for (const { address, port } of to) this.#send(datagram, address, port);
    this.#apply();
  }

  #send(datagram: Buffer, address: string, port: number): void {
    // An interface that is down for a while costs the hellos of that while.
    this.#socket.send(datagram, port, address, () => undefined);
  }

  #receive(datagram: Uint8Array, from: string): void {
    const { service, name, key } = this.options;
    const read = open(datagram, key);
    if ('refused' in read) return this.#refuse(`a datagram from ${from}: ${read.why}`);
    if (read.service !== service) return this.#refuse(`a message from ${from} is of service ${read.service}`);
    if (read.kind === 'hello') {
      const member = this.#roster?.members.find((candidate) => candidate.name === read.name);
      if (member === undefined || canonical(member.address) !== from || read.name === name) return this.#refuse(`a hello of ${read.name} from ${from}`);
      return this.#shares.hear(read);
    }
    this.#take(read, from);
  }

  #take(roster: Roster, from: string): void {
    const at = this.options.forwarders.findIndex(({ address }) => canonical(address) === from);
    if (at < 0 || roster.to !== this.#session || Math.abs(roster.atMs - Date.now()) > MOST_SKEW_MS) return this.#refuse(`a roster from ${from} is not for this run, or old`);
    const nowMs = performance.now();
    this.#heardFrom.set(from, nowMs);
    const earlier = this.options.forwarders.slice(0, at).some(({ address }) => nowMs - (this.#heardFrom.get(canonical(address)) ?? -Infinity) < SILENT_MS);
    if (earlier || (this.#roster !== null && roster.number < this.#roster.number && at === 0)) return;
    const before = this.role;
    const changed = roster.number !== this.#roster?.number;
    this.#roster = roster;
    if (changed) this.#apply();
    if (this.role !== before) this.log.info({ members: roster.members.length, primary: roster.primary }, `${this.role} of its group`);
  }

  /** The group for native code, where anything of it has changed. */
  #apply(): void {
    const roster = this.#roster;
    const ownMac = native.interfaceInfo(this.options.interface)?.mac ?? null;
    if (roster === null || ownMac === null || !roster.members.some(({ name }) => name === this.options.name)) return;
    this.#neighbours.refresh(roster.members.filter(({ name }) => name !== this.options.name).map(({ address }) => ({ address })));
    const weights = this.#shares.weights(roster);
    const members = roster.members.map(({ name, address, state }) => {
      const own = name === this.options.name;
      const [seed0, seed1] = instanceSeed(instanceKey(roster.service, name));
      const mac = own ? ownMac : this.#neighbours.macOf(address);
      return { id: this.#idOf(name), address, mac, usable: own || state !== 'down', takesNew: state === 'up', weight: weights.get(name) ?? 1, seed0, seed1 };
    });
    const group: NativeGroup = { primary: this.#isPrimary && roster.directs, ownId: 0, ownMac, members };
    if (same(group, this.#joined)) return;
    this.options.join(group);
    this.#joined = group;
  }

  #idOf(name: string): number {
    const known = this.#ids.get(name) ?? this.#ids.size;
    this.#ids.set(name, known);
    return known;
  }

  /** Told once: whoever can send here must not fill the log. */
  #refuse(why: string): void {
    if (this.#warned) return;
    this.#warned = true;
    this.log.warn(`the group: ${why} was refused; from now on such messages are only ignored`);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#socket.close();
  }
}
