/**
 * What is said to other instances, and what they have acknowledged: datagrams of records, so many on their way to each, said again when no
 * answer comes. Which streams, and what of them, state-sync.ts says.
 */
import type { Session } from '../envelope.js';
import type { MapInstance } from '../service-map.js';
import type { Entry, Peer } from './peer.js';
import { soon } from './peer.js';
import { decodeAck, writeRecord, type SyncRecord } from './record.js';
import { Writer } from './state-codec.js';
import type { SyncedStream } from './store.js';

/** Of records in a datagram: with headers it fits 1,500 bytes, also stamped. */
const DATAGRAM_BYTES = 1200;
/** Datagrams on their way to one instance. */
const WINDOW = 64;
const FIRST_RETRY_MS = 20;
const LONGEST_RETRY_MS = 500;
/** With more than these on their way nothing is filled. */
const FILL_WINDOW = 4;

export interface OutboxOptions<S extends SyncedStream> {
  readonly now: () => number;
  readonly nextSequence: () => number;
  readonly send: (to: MapInstance, sequence: number, body: Buffer) => void;
  /** As the stream is now. May throw. */
  readonly recordOf: (entry: Entry<S>) => SyncRecord;
  readonly refuse: (error: unknown) => void;
  /** The other one has this version. */
  readonly kept: (entry: Entry<S>, version: number) => void;
}

export class Outbox<S extends SyncedStream> {
  readonly counts = { recordsSent: 0, saidAgain: 0 };
  readonly #peers = new Map<Session, Peer<S>>();

  constructor(private readonly options: OutboxOptions<S>) {}

  get busy(): boolean {
    for (const { flights, urgent, background, later } of this.#peers.values()) if (flights.size + urgent.size + background.size + later.size > 0) return true;
    return false;
  }

  /** Streams with a change that the other one does not have, and since when the oldest; those of a fill that are not said yet. */
  get waiting(): { readonly streams: number; readonly sinceMs: number; readonly fill: number } {
    let [streams, fill, sinceMs] = [0, 0, Infinity];
    for (const { urgent, background, flights } of this.#peers.values()) {
      fill += background.size;
      const said = new Set(urgent);
      for (const flight of flights.values()) for (const { entry } of flight.records) if (entry.acked < entry.stream.stateVersion) said.add(entry);
      streams += said.size;
      for (const entry of said) sinceMs = Math.min(sinceMs, entry.dirtySinceMs);
    }
    return { streams, sinceMs, fill };
  }

  peer(instance: MapInstance): Peer<S> {
    const known = this.#peers.get(instance.session);
    if (known !== undefined) return known;
    const peer: Peer<S> = { instance, flights: new Map(), urgent: new Set(), background: new Set(), later: new Map(), retryMs: FIRST_RETRY_MS, fillWindow: 1 };
    this.#peers.set(instance.session, peer);
    return peer;
  }

  /** Nothing is said any more to those that are not on the map. */
  keepOnly(isThere: (session: Session) => boolean): void {
    for (const [session, peer] of this.#peers) {
      if (isThere(session)) continue;
      this.#peers.delete(session);
      for (const flight of peer.flights.values()) for (const { entry } of flight.records) if (entry.target === peer) entry.target = null;
      for (const set of [peer.urgent, peer.background, peer.later.keys()]) for (const entry of set) if (entry.target === peer) entry.target = null;
    }
  }

  flush(): void {
    for (const peer of this.#peers.values()) {
      while (peer.urgent.size > 0 && peer.flights.size < WINDOW) if (!this.#say(peer, peer.urgent, false)) break;
    }
  }

  /**
   * From time to time, and not as soon as there is room, or acknowledgements that packets wait for would wait meanwhile. Nor is what packets wait for
   * to wait behind a fill at the other one, which a datagram takes some milliseconds: beside it there is one on its way.
   */
  #fill(peer: Peer<S>): void {
    if (peer.background.size === 0) return;
    let fills = 0;
    for (const { fill } of peer.flights.values()) if (fill) fills++;
    if (peer.flights.size > fills) peer.fillWindow = 1;
    for (; peer.background.size > 0 && fills < peer.fillWindow && peer.flights.size < FILL_WINDOW; fills++) if (!this.#say(peer, peer.background, true)) return;
  }

  tick(): void {
    const now = this.options.now();
    for (const peer of this.#peers.values()) {
      let late = false;
      for (const [sequence, flight] of peer.flights) {
        const age = now - flight.sentMs;
        if (age >= 0 && age < peer.retryMs) continue;
        late = true;
        peer.flights.delete(sequence);
        for (const { entry, version } of flight.records) {
          if (entry.target !== peer || entry.acked >= version) continue;
          this.counts.saidAgain++;
          soon(peer, entry);
        }
      }
      for (const [entry, atMs] of peer.later) {
        if (now < atMs && atMs - now <= LONGEST_RETRY_MS) continue;
        peer.later.delete(entry);
        if (entry.target === peer) soon(peer, entry);
      }
      if (late) peer.retryMs = Math.min(peer.retryMs * 2, LONGEST_RETRY_MS);
    }
    this.flush();
    for (const peer of this.#peers.values()) this.#fill(peer);
  }

  acknowledged(from: Session, body: Uint8Array): void {
    const ack = decodeAck(body);
    const peer = this.#peers.get(from);
    const flight = ack === null ? undefined : peer?.flights.get(ack.sequence);
    if (ack === null || peer === undefined || flight === undefined) return;
    peer.flights.delete(ack.sequence);
    peer.retryMs = FIRST_RETRY_MS;
    if (flight.fill) peer.fillWindow = Math.min(peer.fillWindow + 1, FILL_WINDOW);
    flight.records.forEach(({ entry, version }, i) => {
      if (entry.target !== peer) return;
      const result = ack.results[i] ?? 'later';
      if (result === 'kept') this.options.kept(entry, version);
      else if (result === 'need_full') {
        entry.acked = 0;
        entry.mask = null;
        soon(peer, entry);
      } else if (entry.acked < version) peer.later.set(entry, this.options.now() + peer.retryMs);
    });
    this.flush();
  }

  /** One datagram of what is in `from`. */
  #say(peer: Peer<S>, from: Set<Entry<S>>, fill: boolean): boolean {
    const out = new Writer(DATAGRAM_BYTES + 256);
    const records: { entry: Entry<S>; version: number }[] = [];
    for (const entry of from) {
      if (out.length >= DATAGRAM_BYTES) break;
      from.delete(entry);
      if (entry.target !== peer || (entry.stream.gone && !entry.ended)) continue;
      let record: SyncRecord;
      try {
        record = this.options.recordOf(entry);
      } catch (error) {
        this.options.refuse(error);
        continue;
      }
      const part = new Writer(64 + record.state.length);
      writeRecord(part, record);
      if (records.length > 0 && out.length + part.length > DATAGRAM_BYTES) {
        from.add(entry);
        break;
      }
      out.raw(part.done());
      entry.sent = record.version;
      records.push({ entry, version: record.version });
    }
    if (records.length === 0) return false;
    this.counts.recordsSent += records.length;
    const sequence = this.options.nextSequence();
    peer.flights.set(sequence, { records, sentMs: this.options.now(), fill });
    this.options.send(peer.instance, sequence, out.done());
    return true;
  }
}
