/** What one instance tells another of a stream: all of its state, what changed of it, or that it has ended. */
import { Reader, StateRefused, Writer, MOST_STATE_BYTES } from './state-codec.js';

/** Addresses are 32-bit words, as the stream's first packet travelled; IPv4 has one each. */
export interface StreamTuple {
  version: number;
  protocol: number;
  fromPort: number;
  toPort: number;
  f0: number;
  f1: number;
  f2: number;
  f3: number;
  t0: number;
  t1: number;
  t2: number;
  t3: number;
}

export interface SyncRecord {
  readonly kind: 'full' | 'delta' | 'end';
  readonly code: number;
  /** Path that the stream is on. */
  readonly path: number;
  readonly tuple: StreamTuple;
  /** Goes up with each change of the stream's state, at whoever serves it. */
  readonly version: number;
  /** Of a delta: the receiver has to have this version, or a later one. */
  readonly base: number;
  readonly answered: boolean;
  readonly ends: number;
  readonly state: Uint8Array;
}

const KINDS = ['full', 'delta', 'end'] as const;

export function writeRecord(out: Writer, r: SyncRecord): void {
  out.u8(KINDS.indexOf(r.kind) | (r.answered ? 8 : 0) | (r.ends << 4));
  out.u32(r.code);
  out.varint(r.path);
  out.varint(r.version);
  if (r.kind === 'delta') out.varint(r.base);
  const t = r.tuple;
  out.u8(t.version);
  out.u8(t.protocol);
  out.u16(t.fromPort);
  out.u16(t.toPort);
  const words = t.version === 6 ? [t.f0, t.f1, t.f2, t.f3, t.t0, t.t1, t.t2, t.t3] : [t.f0, t.t0];
  for (const word of words) out.u32(word);
  if (r.kind !== 'end') out.sized(r.state);
}

/** Throws a StateRefused. */
export function readRecord(from: Reader): SyncRecord {
  const first = from.u8();
  const kind = KINDS[first & 7];
  if (kind === undefined) throw new StateRefused('malformed', 'a record of no kind');
  const code = from.u32();
  const path = from.varint();
  const version = from.varint();
  const base = kind === 'delta' ? from.varint() : 0;
  const tuple: StreamTuple = { version: from.u8(), protocol: from.u8(), fromPort: from.u16(), toPort: from.u16(), f0: 0, f1: 0, f2: 0, f3: 0, t0: 0, t1: 0, t2: 0, t3: 0 };
  const word = (): number => from.u32() | 0;
  if (tuple.version === 6) [tuple.f0, tuple.f1, tuple.f2, tuple.f3, tuple.t0, tuple.t1, tuple.t2, tuple.t3] = [word(), word(), word(), word(), word(), word(), word(), word()];
  else [tuple.f0, tuple.t0] = [word(), word()];
  const state = kind === 'end' ? new Uint8Array(0) : from.sized(MOST_STATE_BYTES);
  return { kind, code, path, tuple, version, base, answered: (first & 8) !== 0, ends: first >> 4, state };
}

/** The same stream, in either direction. */
export function sameStream(a: StreamTuple, b: StreamTuple): boolean {
  if (a.version !== b.version || a.protocol !== b.protocol) return false;
  const along = a.fromPort === b.fromPort && a.toPort === b.toPort && a.f0 === b.f0 && a.f1 === b.f1 && a.f2 === b.f2 && a.f3 === b.f3 && a.t0 === b.t0 && a.t1 === b.t1 && a.t2 === b.t2 && a.t3 === b.t3;
  return along || (a.fromPort === b.toPort && a.toPort === b.fromPort && a.f0 === b.t0 && a.f1 === b.t1 && a.f2 === b.t2 && a.f3 === b.t3 && a.t0 === b.f0 && a.t1 === b.f1 && a.t2 === b.f2 && a.t3 === b.f3);
}

/** What became of each record of a datagram. */
export const RESULTS = ['kept', 'need_full', 'later', 'refused'] as const;
export type Result = (typeof RESULTS)[number];

export function encodeAck(sequence: number, results: readonly Result[]): Buffer {
  const out = new Writer(8 + results.length);
  out.varint(sequence);
  for (const result of results) out.u8(RESULTS.indexOf(result));
  return out.done();
}

export function decodeAck(body: Uint8Array): { readonly sequence: number; readonly results: readonly Result[] } | null {
  try {
    const from = new Reader(body);
    const sequence = from.varint();
    const results: Result[] = [];
    while (!from.over) results.push(RESULTS[from.u8()] ?? 'refused');
    return { sequence, results };
  } catch {
    return null;
  }
}
