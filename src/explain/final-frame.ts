/**
 * The frame as the first instance would get it. It is made by the real pipeline in an engine that has no other use:
 * neither the live streams nor the counters of a running weir notice.
 */
import { native, RULE_BYTES, type EmittedFrame, type NativeCounters, type NativeDecision, type NativeFlow, type NativeInstance, type NativeProgram, type Tuple } from '../dataplane/native.js';
import { reachable } from '../program/attachments.js';
import { roleOf } from '../program/port-numbers.js';
import { decodeFrame, type DecodedFrame } from './decode.js';
import { openingFrame } from './opening-frame.js';

/** A frame that somebody captured, and the side it came from. */
export interface GivenFrame {
  readonly bytes: Uint8Array;
  readonly direction: 'out' | 'in';
}

export type FinalFrame =
  | {
      readonly sent: true;
      /** Instance id. */
      readonly instance: number;
      readonly hex: string;
      readonly bytes: number;
      /** Frames that the same packet becomes beside this one: a super-frame is cut. */
      readonly more: number;
      /** `given`, or `made up` from addresses and ports. */
      readonly packet: 'given' | 'made up';
      readonly decoded: DecodedFrame | null;
    }
  | { readonly sent: false; readonly why: string };

const UNDERLAY = 0;
/** Long enough that whatever an earlier frame left behind has timed out, and ICMP errors are allowed again. */
const HOUR_NS = 3_600_000_000_000n;
const IDLE_MS = 1000;

/** One engine for all frames, since making one takes 10 ms: each frame comes at a time of its own, when no stream is left. */
class Workbench {
  readonly #engine = new native.Engine({ flowsMax: 16 });
  #nowNs = 0n;

  begin(program: NativeProgram): void {
    this.#engine.install({ ...program, idle: { tcp: IDLE_MS, other: IDLE_MS, closed: IDLE_MS } });
    this.#nowNs += HOUR_NS;
    // An empty frame moves the clock, so that streams and fragments of earlier frames end before this one comes.
    this.#engine.process(this.#nowNs, UNDERLAY, new Uint8Array(0));
  }

  send(port: number, frame: Uint8Array): EmittedFrame[] {
    return this.#engine.process(this.#nowNs, port, frame, true);
  }

  counters(): NativeCounters {
    return this.#engine.counters();
  }
}
let workbench: Workbench | null = null;

const portOf = (capture: number, direction: 'out' | 'in'): number => 1 + 2 * capture + (direction === 'out' ? 0 : 1);

/** One rule that takes everything to one chain: layout of RULE_BYTES in native.ts. */
function ruleFor(chain: number): Uint8Array {
  const row = new DataView(new ArrayBuffer(RULE_BYTES));
  row.setUint8(34, 255);
  row.setUint16(38, 65_535, true);
  row.setUint16(42, 65_535, true);
  row.setUint16(44, 65_535, true);
  row.setUint16(46, 65_535, true);
  row.setUint8(48, 2);
  row.setUint32(52, chain, true);
  return new Uint8Array(row.buffer);
}

const takesPinned = (instance: NativeInstance): boolean => (instance.state === 'up' || instance.state === 'draining') && reachable(instance);

/**
 * The program in force with nothing left to decide: every stream takes the path, and at each hop the instance that it is pinned to.
 * A pin that can't be used is left to the pipeline, which chooses anew or holds, as it would for the live stream.
 */
function narrowed(program: NativeProgram, path: number, pins: readonly number[]): NativeProgram | null {
  const way = program.paths.find((candidate) => candidate.id === path);
  if (way === undefined) return null;
  const byId = new Map(program.instances.map((instance) => [instance.id, instance]));
  const pinnedAt = new Map<number, number>();
  way.services.forEach((service, i) => {
    const instance = byId.get(pins[i] ?? -1);
    if (instance !== undefined && takesPinned(instance)) pinnedAt.set(service, instance.id);
  });
  const instances = program.instances
    .filter(({ service }) => way.services.includes(service))
    .map((instance): NativeInstance => {
      const pinned = pinnedAt.get(instance.service);
      return pinned === undefined ? instance : { ...instance, state: instance.id === pinned ? 'up' : 'down' };
    });
  return {
    ...program,
    services: program.services.filter(({ id }) => way.services.includes(id)),
    instances,
    paths: [{ ...way, movedTo: 0 }],
    chains: [{ id: way.chain, path }],
    moves: [],
    rules: ruleFor(way.chain),
  };
}

/** Where a live stream is at its next packet: on the path that its own was moved to, with its instances of the services on both. */
function moved(program: NativeProgram, path: number, pins: readonly number[]): { path: number; pins: readonly number[] } {
  const own = program.paths.find((candidate) => candidate.id === path);
  if (own === undefined || own.movedTo === 0) return { path, pins };
  const target = program.paths.find((candidate) => candidate.id === own.movedTo);
  if (target === undefined) return { path, pins };
  return moved(program, target.id, target.services.map((service) => pins[own.services.indexOf(service)] ?? -1));
}

const rise = (before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>): string | undefined =>
  Object.keys(after).find((reason) => (after[reason] ?? 0) > (before[reason] ?? 0));

/** Why nothing went to an instance, from what was counted meanwhile. */
function whyNot(before: NativeCounters, after: NativeCounters, out: readonly EmittedFrame[]): string {
  const dropped = rise(before.dropped, after.dropped);
  if (dropped !== undefined) return `dropped: ${dropped}${out.length > 0 ? ', and the sender is told' : ''}`;
  const crossed = rise(before.crossedBy, after.crossedBy);
  if (crossed !== undefined) return `crosses unchanged: ${crossed}`;
  return 'held: a later fragment, whose ports are those of its first one';
}

/**
 * `opener`: the packet that opens the stream (of the live one, where there is one). Null for `given` makes that packet up and sends it;
 * else the given one is sent, as a packet of the opener's stream.
 */
export function finalFrame(program: NativeProgram, opener: Tuple, decision: Pick<NativeDecision, 'action' | 'path' | 'policy' | 'hops'>, live: NativeFlow | null, given: GivenFrame | null): FinalFrame {
  const { action, policy } = live ?? decision;
  if (action === 'drop') return { sent: false, why: 'dropped: policy' };
  if (action === 'pass') return { sent: false, why: `crosses unchanged: ${policy < 0 ? 'default_pass' : 'policy'}` };
  const { path, pins } = live === null ? { path: decision.path, pins: decision.hops.map((hop) => hop.chosen) } : moved(program, live.path, live.pins);
  const fixed = narrowed(program, path, pins);
  if (fixed === null) return { sent: false, why: `path ${path} is not in the program` };
  const made = openingFrame(opener);
  if (made === null) return { sent: false, why: 'source and destination are of different address families: no packet has both' };
  const bench = (workbench ??= new Workbench());
  bench.begin(fixed);
  const send = (direction: 'out' | 'in', frame: Uint8Array): EmittedFrame[] => bench.send(portOf(opener.capture, direction), frame);
  // A given packet meets the stream already there, so that an answer is one.
  if (given !== null) send(opener.direction, made);
  const before = bench.counters();
  const out = given === null ? send(opener.direction, made) : send(given.direction, given.bytes);
  const toInstance = ({ port }: EmittedFrame): boolean => !['in', 'out'].includes(roleOf(port, program).kind);
  return report(before, out, out.filter(toInstance), bench.counters(), given === null ? 'made up' : 'given');
}

function report(before: NativeCounters, out: readonly EmittedFrame[], sent: readonly EmittedFrame[], after: NativeCounters, packet: 'given' | 'made up'): FinalFrame {
  const first = sent[0];
  if (first === undefined) return { sent: false, why: whyNot(before, after, out) };
  const sentTo = (counters: NativeCounters): Map<number, number> => new Map(counters.instances.map((row) => [row.id, row.sent.packets]));
  const [was, is] = [sentTo(before), sentTo(after)];
  const instance = [...is].find(([id, packets]) => packets > (was.get(id) ?? 0))?.[0] ?? -1;
  return { sent: true, instance, hex: Buffer.from(first.bytes).toString('hex'), bytes: first.bytes.length, more: sent.length - 1, packet, decoded: decodeFrame(first.bytes) };
}
