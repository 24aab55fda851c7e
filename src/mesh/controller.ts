/**
 * weir's side of the mesh: who is there, by leases that nodes renew with each hello, and the service map that they get. Pure but for what
 * it is given: time comes with a clock, datagrams go by a function, so that a simulation drives the same code.
 */
import { encodeMap, digestOf, MOST_MAP_BYTES, type MapContent, type ServiceMap } from './service-map.js';
import { NOBODY, open, seal, type Envelope, type Kind, type Session } from './envelope.js';
import { decodeHello, piecesOf, type Hello, type SyncReport } from './hello.js';
import { Refusals } from './refusals.js';

export interface Place {
  readonly address: string;
  readonly port: number;
}

export interface ControllerOptions {
  /** Milliseconds; a clock that nobody sets. */
  readonly now: () => number;
  readonly send: (to: Place, datagram: Buffer) => void;
  readonly key: Uint8Array;
  readonly session: Session;
  readonly leaseMs: number;
  /** Who is there has changed. */
  readonly changed: (what: string) => void;
  readonly tell: (reason: Refusal, why: string) => void;
}

export const REFUSALS = ['malformed', 'forged', 'replayed', 'unknown_sender', 'wrong_instance'] as const;
export type Refusal = (typeof REFUSALS)[number];

/** Runs of an instance that are over, and stay so. */
const FORMER_RUNS = 16;
/** Between two copies of a map for the same node, and how long it gets any without having asked. */
const RESEND_MS = 20;
const RESEND_FOR_MS = 1000;

interface Member {
  readonly key: string;
  readonly address: string;
  session: Session | null;
  /** Null: it has not been heard of in this run. */
  port: number | null;
  syncPort: number;
  lastMs: number;
  sequence: number;
  former: readonly Session[];
  version: number;
  digest: string;
  sentMs: number;
  unreachable: ReadonlyMap<string, number>;
  sync: SyncReport | null;
}

export interface MemberView {
  readonly instance: string;
  readonly session: Session | null;
  readonly ageMs: number | null;
  readonly version: number;
  /** Null: it does not say, or is not there. */
  readonly sync: SyncReport | null;
}

interface Published {
  readonly map: ServiceMap;
  readonly digest: string;
  readonly pieces: readonly Buffer[];
  readonly atMs: number;
}

export class MeshController {
  readonly refusals: Refusals<Refusal>;
  readonly #members = new Map<string, Member>();
  readonly #byAddress = new Map<string, Member>();
  readonly #errors = new Map<string, number>();
  #published: Published | null = null;
  #sequence = 0;
  /** Versions only go up, also past those of a controller before. */
  #highest = 0;

  constructor(private readonly options: ControllerOptions) {
    this.refusals = new Refusals(options.tell);
  }

  /** Who may be there: `service/instance` and its address. */
  configure(instances: readonly { readonly key: string; readonly address: string }[]): void {
    const before = new Map(this.#members);
    this.#members.clear();
    this.#byAddress.clear();
    for (const { key, address } of instances) {
      const known = before.get(key);
      const member: Member = known?.address === address ? known : { key, address, session: null, port: null, syncPort: 0, lastMs: 0, sequence: -1, former: [], version: 0, digest: '', sentMs: 0, unreachable: new Map(), sync: null };
      this.#members.set(key, member);
      this.#byAddress.set(address, member);
    }
    for (const key of this.#errors.keys()) if (!this.#members.has(key)) this.#errors.delete(key);
  }

  /** A run that the controller before this one knew counts as there for the time of a lease. */
  presume(key: string, session: Session): void {
    const member = this.#members.get(key);
    if (member === undefined || member.session !== null) return;
    member.session = session;
    member.lastMs = this.options.now();
  }

  /** Of the run of an instance that is there; null: none is. */
  sessionOf(key: string): Session | null {
    const member = this.#members.get(key);
    return member?.session != null && this.options.now() - member.lastMs <= this.options.leaseMs ? member.session : null;
  }

  syncPortOf(key: string): number {
    return this.#members.get(key)?.syncPort ?? 0;
  }

  get map(): ServiceMap | null {
    return this.#published?.map ?? null;
  }

  /** Errors that nodes have told of about an instance, since each was first heard. It never gets less. */
  unreachable(key: string): number {
    return this.#errors.get(key) ?? 0;
  }

  /** Puts a map in force. Returns its version; the same as before where nothing is new. */
  publish(content: MapContent): number {
    const before = this.#published;
    if (before !== null && JSON.stringify({ ...content, version: before.map.version }) === JSON.stringify({ ...before.map })) return before.map.version;
    const version = Math.max(this.#highest + 1, Math.trunc(this.options.now())); // past the versions of a weir before this one, where no node is left to tell them
    this.#highest = version;
    const map: ServiceMap = { ...content, version };
    const encoded = encodeMap(map);
    if (encoded.length > MOST_MAP_BYTES) throw new Error(`the service map has ${encoded.length} bytes, more than the ${MOST_MAP_BYTES} there may be: take instances or chains out`);
    const digest = digestOf(encoded);
    this.#published = { map, digest, pieces: piecesOf(encoded, version, digest), atMs: this.options.now() };
    for (const member of this.#members.values()) this.#sendMap(member);
    return version;
  }

  /** Whether everybody who is there and on the map has it. Who failed is on it no more, and may be there by his lease for a while. */
  get everybodyHasIt(): boolean {
    const onMap = new Set(this.#published?.map.instances.map(({ session }) => session));
    return [...this.#members.values()].every((member) => {
      const session = this.sessionOf(member.key);
      return member.port === null || session === null || !onMap.has(session) || this.#has(member);
    });
  }

  receive(datagram: Uint8Array, from: Place): void {
    const member = this.#byAddress.get(from.address);
    if (member === undefined) return this.refusals.add('unknown_sender', `a datagram from ${from.address}, which is no instance's address`);
    const read = open(datagram, this.options.key);
    if ('refused' in read) return this.refusals.add(read.refused, `a datagram from ${from.address}: ${read.why}`);
    const hello = read.kind === 'hello' ? decodeHello(read.body) : null;
    if (hello === null) return this.refusals.add('malformed', `a datagram from ${from.address} is no hello`);
    if (`${hello.service}/${hello.name}` !== member.key) return this.refusals.add('wrong_instance', `${from.address} says that it is ${hello.service}/${hello.name}, but that address is ${member.key}'s`);
    // Only who knows this run of weir can have made it since that began; so clocks need not agree.
    if (read.to !== this.options.session) return this.#send(from, 'welcome', read.from, Buffer.alloc(0));
    this.#hear(member, read, hello, from);
  }

  #hear(member: Member, read: Envelope, hello: Hello, from: Place): void {
    const same = read.from === member.session;
    if (same ? read.sequence <= member.sequence : member.former.includes(read.from)) return this.refusals.add('replayed', `a hello of ${member.key} is not newer than the one before`);
    const was = this.sessionOf(member.key);
    const moved = member.syncPort !== hello.syncPort;
    const errors = new Map(hello.unreachable);
    if (member.port !== null) this.#count(errors, member.unreachable);
    if (!same && member.session !== null) member.former = [member.session, ...member.former].slice(0, FORMER_RUNS);
    member.session = read.from;
    member.port = from.port;
    member.syncPort = hello.syncPort;
    member.lastMs = this.options.now();
    member.sequence = read.sequence;
    member.version = hello.version;
    member.digest = hello.digest;
    member.unreachable = errors;
    member.sync = hello.sync ?? null;
    this.#highest = Math.max(this.#highest, hello.version);
    if (was !== read.from) this.options.changed(`${member.key} is there${was === null ? '' : ' in another run'}`);
    else if (moved) this.options.changed(`${member.key} takes state elsewhere`);
    if (!this.#has(member)) this.#sendMap(member);
  }

  /** A process counts from its start: one that has counted less than before is another one. */
  #count(errors: ReadonlyMap<string, number>, before: ReadonlyMap<string, number>): void {
    for (const [key, count] of errors) {
      const known = before.get(key) ?? 0;
      if (this.#members.has(key)) this.#errors.set(key, this.unreachable(key) + (count >= known ? count - known : count));
    }
  }

  #has(member: Member): boolean {
    const { map, digest } = this.#published ?? {};
    return map === undefined || (member.version === map.version && member.digest === digest);
  }

  #lapsed = new Set<string>();

  /** Has to be called every few milliseconds: leases end, maps are sent again. */
  tick(): void {
    const now = this.options.now();
    const published = this.#published;
    for (const member of this.#members.values()) {
      const there = this.sessionOf(member.key) !== null;
      if (there) this.#lapsed.delete(member.key);
      else if (member.session !== null && !this.#lapsed.has(member.key)) {
        this.#lapsed.add(member.key);
        this.options.changed(`${member.key} has not been heard of for ${this.options.leaseMs} ms`);
      }
      if (there && published !== null && now - published.atMs < RESEND_FOR_MS && !this.#has(member)) this.#sendMap(member);
    }
  }

  #sendMap(member: Member): void {
    const now = this.options.now();
    const published = this.#published;
    if (published === null || member.port === null || member.session === null) return;
    if (now - member.sentMs < RESEND_MS && member.sentMs >= published.atMs && member.sentMs <= now) return;
    member.sentMs = now;
    for (const piece of published.pieces) this.#send({ address: member.address, port: member.port }, 'map', member.session, piece);
  }

  #send(to: Place, kind: Kind, session: Session, body: Buffer): void {
    const { key, session: from, now, send } = this.options;
    send(to, seal({ kind, from, to: session, sequence: this.#sequence++, atMs: now(), body }, key));
  }

  /** For people and their instruments. */
  view(): readonly MemberView[] {
    return [...this.#members.values()].map((member) => {
      const session = this.sessionOf(member.key);
      return { instance: member.key, session, ageMs: member.port === null ? null : this.options.now() - member.lastMs, version: member.version, sync: session === null ? null : member.sync };
    });
  }
}

export { NOBODY };
