/** Compares what happened to streams with what was expected of them. */
import { parseAddress } from '../config/address.js';
import type { Configuration } from '../config/configuration.js';
import type { NativeDecision, NativeFlow } from '../dataplane/native.js';
import { streamsOf } from '../explain/capture.js';
import { stillSubject, type StillSubject } from '../explain/subject.js';
import { matches, type Opening } from '../program/reference.js';
import { endpoint } from '../observe/print.js';
import type { Expectation, Range } from './expect-load.js';
import type { ExpectedKey } from './expect-schema.js';

/** What was found of a stream, in names. */
export interface Observed {
  readonly opening: Opening;
  readonly action: 'pass' | 'drop' | 'chain';
  readonly chain: string | null;
  readonly hops: readonly string[];
  readonly policy: string | null;
  /** By hop; null where it has none. */
  readonly instances: readonly (string | null)[];
  readonly packets: number;
}

export interface Miss {
  /** `match`: nothing matched. */
  readonly key: ExpectedKey | 'match';
  readonly line: number;
  readonly expected: string;
  readonly found: string;
  /** Streams of which it was found; null where it is about their number. */
  readonly streams: number | null;
  readonly examples: readonly string[];
}

export interface Verdict {
  readonly name: string;
  readonly line: number;
  /** Streams that matched. */
  readonly streams: number;
  readonly packets: number;
  /** `capture`: the streams of the capture; `classifier`: none was there, or no capture was given, and the 5-tuple was decided alone. */
  readonly by: 'capture' | 'classifier';
  readonly misses: readonly Miss[];
}

export interface ExpectResult {
  readonly verdicts: readonly Verdict[];
  /** Null: the capture, if there was one, was read to its end. */
  readonly error: string | null;
  /** 5-tuples that the capture opens more than once: of each only the last turn is looked at and counted. */
  readonly reopened: number;
}

const MOST_EXAMPLES = 3;
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };

/** Throws a Failure when the capture can't be read. */
export async function checkExpectations(configuration: Configuration, expectations: readonly Expectation[], read: string | null, workload: readonly string[]): Promise<ExpectResult> {
  const subject = stillSubject(configuration);
  if (read === null) return { verdicts: expectations.map((expectation) => judge(expectation, null, subject)), error: null, reopened: 0 };
  const { streams, error, reopened } = await streamsOf(read, workload, subject.program);
  const observed = streams.map((flow) => placed(ofFlow(flow, subject)));
  return { verdicts: expectations.map((expectation) => judge(expectation, observed, subject)), error, reopened };
}

/** With its addresses as bytes, once for all expectations. */
interface Placed extends Observed {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
}

const NOWHERE = new Uint8Array(16);
const placed = (observed: Observed): Placed => ({ ...observed, from: parseAddress(observed.opening.source) ?? NOWHERE, to: parseAddress(observed.opening.destination) ?? NOWHERE });

function named(subject: StillSubject, policy: number, path: number, instances: readonly number[]): Pick<Observed, 'chain' | 'hops' | 'policy' | 'instances'> {
  const way = subject.paths.get(path);
  return {
    chain: way?.chain ?? null,
    hops: way?.services ?? [],
    policy: policy < 0 ? null : (subject.ids.policies.name(policy) ?? null),
    instances: instances.map((id) => (id < 0 ? null : (subject.ids.instances.name(id) ?? null))),
  };
}

function ofFlow(flow: NativeFlow, subject: StillSubject): Observed {
  const opening: Opening = { ...flow, capture: subject.configuration.captures[flow.capture]?.name ?? '', vlan: flow.vlan[0], direction: flow.opened };
  return { opening, action: flow.action, packets: flow.packets, ...named(subject, flow.policy, flow.action === 'chain' ? flow.path : 0, flow.pins) };
}

function ofDecision(opening: Opening, decision: NativeDecision, subject: StillSubject): Observed {
  const instances = decision.hops.map((hop) => hop.chosen);
  return { opening, action: decision.action, packets: 0, ...named(subject, decision.policy, decision.action === 'chain' ? decision.path : 0, instances) };
}

function judge(expectation: Expectation, observed: readonly Placed[] | null, subject: StillSubject): Verdict {
  const { name, line, match, tuple, streams, packets } = expectation;
  const found: readonly Observed[] = observed?.filter((stream) => matches(match, stream.opening, stream.from, stream.to)) ?? [];
  const count = found.reduce((sum, stream) => sum + stream.packets, 0);
  const verdict = (by: Verdict['by'], misses: readonly Miss[]): Verdict => ({ name, line, streams: found.length, packets: count, by, misses });
  if (found.length === 0 && tuple !== null && streams === null && packets === null) {
    const capture = subject.configuration.captures.findIndex((candidate) => candidate.name === tuple.capture);
    const decision = subject.describe({ ...tuple, capture, vlan: [tuple.vlan, 0] });
    return verdict('classifier', streamMisses(expectation, [ofDecision(tuple, decision, subject)]));
  }
  const counts = [...countMiss(expectation, 'streams', streams, found.length), ...countMiss(expectation, 'packets', packets, count)];
  if (found.length === 0 && streams === null && packets === null) {
    return verdict('capture', [{ key: 'match', line, expected: 'a stream that matches', found: 'none in the capture', streams: null, examples: [] }]);
  }
  return verdict('capture', [...streamMisses(expectation, found), ...counts]);
}

const rangeText = ({ min, max }: Range): string => (min === max ? String(min) : max === Number.MAX_SAFE_INTEGER ? `at least ${min}` : min === 0 ? `at most ${max}` : `${min} to ${max}`);

function countMiss({ line, lines }: Expectation, key: 'streams' | 'packets', range: Range | null, found: number): Miss[] {
  if (range === null || (found >= range.min && found <= range.max)) return [];
  return [{ key, line: lines[key] ?? line, expected: rangeText(range), found: String(found), streams: null, examples: [] }];
}

/** What is expected under a key, and what a stream has there; null where the stream is as expected. */
type Look = (stream: Observed) => string | null;

function looks(e: Expectation): { readonly key: ExpectedKey; readonly expected: string; readonly look: Look }[] {
  const list = (names: readonly (string | null)[]): string => `[${names.map((name) => name ?? 'none').join(', ')}]`;
  const decided = (s: Observed): string => `${s.action}, by ${s.policy === null ? 'the default' : `policy ${s.policy}`}`;
  const all: { key: ExpectedKey; expected: string; look: Look }[] = [];
  const { action, chain, hops, policy, instances } = e;
  // `chain` says the action too: one miss is enough for both.
  if (action !== null && chain === null) all.push({ key: 'action', expected: action, look: (s) => (s.action === action ? null : decided(s)) });
  if (chain !== null) all.push({ key: 'chain', expected: chain, look: (s) => (s.chain === chain ? null : s.chain === null ? `no chain: ${decided(s)}` : `${s.chain}, by ${s.policy === null ? 'the default' : `policy ${s.policy}`}`) });
  if (hops !== null) all.push({ key: 'hops', expected: list(hops), look: (s) => (hops.join() === s.hops.join() ? null : list(s.hops)) });
  if (policy !== undefined) all.push({ key: 'policy', expected: policy ?? 'the default', look: (s) => (s.policy === policy ? null : (s.policy ?? 'the default')) });
  if (instances !== null) all.push({ key: 'instances', expected: `one of ${list(instances)}`, look: (s) => instanceFound(s, instances) });
  return all;
}

/** Each service that the set names is visited, at an instance of the set; others are free. */
function instanceFound(stream: Observed, allowed: readonly string[]): string | null {
  const services = [...new Set(allowed.map((instance) => instance.slice(0, instance.indexOf('/'))))];
  const found = services.flatMap((service) => {
    const hop = stream.hops.indexOf(service);
    if (hop < 0) return [`${service} is not visited`];
    const instance = stream.instances[hop] ?? null;
    return instance !== null && allowed.includes(instance) ? [] : [instance ?? `${service} has no instance`];
  });
  return found.length === 0 ? null : found.join(', ');
}

function streamMisses(expectation: Expectation, streams: readonly Observed[]): Miss[] {
  return looks(expectation).flatMap(({ key, expected, look }) => {
    const byFound = new Map<string, Observed[]>();
    for (const stream of streams) {
      const found = look(stream);
      if (found === null) continue;
      const those = byFound.get(found);
      if (those === undefined) byFound.set(found, [stream]);
      else those.push(stream);
    }
    const line = expectation.lines[key] ?? expectation.line;
    return [...byFound].map(([found, those]): Miss => ({ key, line, expected, found, streams: those.length, examples: those.slice(0, MOST_EXAMPLES).map(({ opening }) => inWords(opening)) }));
  });
}

function inWords({ protocol, source, sourcePort, destination, destinationPort, direction, vlan }: Opening): string {
  const name = PROTOCOL_NAMES[protocol] ?? `protocol ${protocol}`;
  return `${name} ${endpoint(source, sourcePort, name)} ${direction === 'out' ? '->' : '<-'} ${endpoint(destination, destinationPort, name)}${vlan === 0 ? '' : ` VLAN ${vlan}`}`;
}
