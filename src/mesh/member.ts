/**
 * A node's side of the mesh: says hello, and takes the service map that it is sent. Pure but for what it is given, as the controller's side is.
 */
import { decodePiece, encodeHello, type MapPiece, type SyncReport } from './hello.js';
import { NOBODY, open, seal, type Session } from './envelope.js';
import { Refusals } from './refusals.js';
import { decodeMap, digestOf, MapView, MOST_MAP_BYTES } from './service-map.js';

export const REFUSALS = ['malformed', 'forged', 'not_for_us', 'stranger', 'map_from_the_past', 'two_maps'] as const;
export type Refusal = (typeof REFUSALS)[number];

export interface MemberOptions {
  readonly now: () => number;
  /** To the controller. */
  readonly send: (datagram: Buffer) => void;
  readonly key: Uint8Array;
  readonly service: string;
  readonly name: string;
  readonly unreachable: () => readonly (readonly [key: string, count: number])[];
  /** How far the sync of state is behind; null, as by default: there is none. */
  readonly sync?: () => SyncReport | null;
  /** A map is in force. `renewed`: weir has given this run up, and so the node begins another one, which has no state; null: it goes on. */
  readonly mapped: (view: MapView, renewed: Session | null) => void;
  readonly newSession: () => Session;
  readonly tell: (reason: Refusal, why: string) => void;
}

/** Hellos a lease. */
const A_LEASE = 4;
const FIRST_INTERVAL_MS = 100;
const SHORTEST_INTERVAL_MS = 10;

interface Collecting {
  readonly version: number;
  readonly digest: string;
  readonly pieces: (Buffer | undefined)[];
  missing: number;
}

export class MeshMember {
  readonly refusals: Refusals<Refusal>;
  #session: Session = NOBODY;
  #syncPort = 0;
  #controller: Session = NOBODY;
  #view: MapView | null = null;
  #digest = '';
  #collecting: Collecting | null = null;
  #sequence = 0;
  #helloMs = 0;
  #intervalMs = FIRST_INTERVAL_MS;

  constructor(private readonly options: MemberOptions) {
    this.refusals = new Refusals(options.tell);
  }

  /** A new run: whatever state there was is gone. */
  begin(session: Session, syncPort: number): void {
    this.#session = session;
    this.#syncPort = syncPort;
    this.#sequence = 0;
    this.hello();
  }

  /** Nothing runs: says nothing until the next begin(). */
  end(): void {
    this.#session = NOBODY;
  }

  get view(): MapView | null {
    return this.#view;
  }

  /** When tick() has something to do next, by the clock of `now`; Infinity: not before begin(). */
  get dueMs(): number {
    return this.#session === NOBODY ? Infinity : this.#helloMs + this.#intervalMs;
  }

  /** Has to be called when it is due; more often does no harm. */
  tick(): void {
    const now = this.options.now();
    if (now - this.#helloMs >= this.#intervalMs || now < this.#helloMs) this.hello();
  }

  hello(): void {
    const { options } = this;
    if (this.#session === NOBODY) return;
    this.#helloMs = options.now();
    const body = encodeHello({ service: options.service, name: options.name, syncPort: this.#syncPort, version: this.#view?.map.version ?? 0, digest: this.#digest, unreachable: options.unreachable(), sync: options.sync?.() ?? null });
    options.send(seal({ kind: 'hello', from: this.#session, to: this.#controller, sequence: this.#sequence++, atMs: options.now(), body }, options.key));
  }

  receive(datagram: Uint8Array): void {
    const read = open(datagram, this.options.key);
    if ('refused' in read) return this.refusals.add(read.refused, read.why);
    if (read.to !== this.#session) return this.refusals.add('not_for_us', 'it is for another run of this instance');
    if (read.kind === 'welcome') {
      if (this.#controller === read.from) return;
      this.#controller = read.from;
      return this.hello();
    }
    const piece = read.kind === 'map' ? decodePiece(read.body) : null;
    if (piece === null) return this.refusals.add('malformed', `a message of kind ${read.kind} makes no sense here`);
    if (read.from !== this.#controller) return this.refusals.add('stranger', 'a map from somebody this node has not said hello to');
    this.#take(piece);
  }

  #take(piece: MapPiece): void {
    const version = this.#view?.map.version ?? 0;
    if (piece.version < version) return this.refusals.add('map_from_the_past', `version ${piece.version} of the map came after ${version}`);
    if (piece.version === version) {
      if (piece.digest !== this.#digest) this.refusals.add('two_maps', `there are two different maps of version ${version}: are two forwarders sending them?`);
      return;
    }
    if (piece.count * 1200 > MOST_MAP_BYTES + 1200) return this.refusals.add('malformed', `a map in ${piece.count} pieces`);
    let collecting = this.#collecting;
    if (collecting === null || collecting.version < piece.version) {
      collecting = this.#collecting = { version: piece.version, digest: piece.digest, pieces: new Array<Buffer | undefined>(piece.count), missing: piece.count };
    } else if (collecting.version > piece.version) return this.refusals.add('map_from_the_past', `version ${piece.version} of the map came after parts of ${collecting.version}`);
    else if (collecting.digest !== piece.digest || collecting.pieces.length !== piece.count) return this.refusals.add('two_maps', `there are two different maps of version ${piece.version}: are two forwarders sending them?`);
    if (collecting.pieces[piece.index] !== undefined) return;
    collecting.pieces[piece.index] = Buffer.from(piece.bytes);
    if (--collecting.missing === 0) this.#complete(collecting);
  }

  #complete({ version, digest, pieces }: Collecting): void {
    this.#collecting = null;
    const encoded = Buffer.concat(pieces.filter((piece) => piece !== undefined));
    if (digestOf(encoded) !== digest) return this.refusals.add('two_maps', `the pieces of map ${version} do not belong together`);
    let view: MapView;
    try {
      view = new MapView(decodeMap(encoded));
    } catch (error) {
      return this.refusals.add('malformed', (error as Error).message);
    }
    if (view.map.version !== version) return this.refusals.add('malformed', `map ${version} calls itself ${view.map.version}`);
    // Who is given up serves nobody, and what it had is old by the time that it is asked for again.
    const renewed = view.map.givenUp.includes(this.#session) ? this.options.newSession() : null;
    if (renewed !== null) this.#session = renewed;
    this.#view = view;
    this.#digest = digest;
    this.#intervalMs = Math.max(SHORTEST_INTERVAL_MS, Math.floor(view.map.leaseMs / A_LEASE));
    this.options.mapped(view, renewed);
    this.hello();
  }
}
