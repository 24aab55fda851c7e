/** What would happen to a stream, and why: each policy's verdict, path, code, ranked instances, pins, and the frame that goes out. */
import { underlayLabel } from '../config/underlays.js';
import type { Tuple } from '../dataplane/native.js';
import type { PathView } from '../dataplane/paths.js';
import { flowView } from '../dataplane/views.js';
import { asOpened, classify, type Considered } from '../program/reference.js';
import { finalFrame, type GivenFrame } from './final-frame.js';
import type { Subject } from './subject.js';

export interface TraceRequest extends Omit<Tuple, 'capture'> {
  readonly capture: string;
  /** A packet of this stream; without it the packet that opens the stream is made up. */
  readonly frame?: GivenFrame;
}

/** Policies that did not match are of less and less interest: with a hundred thousand of them nobody reads all. */
const MOST_UNMATCHED = 100;

function shown(considered: readonly Considered[]) {
  const unmatched = considered.filter((entry) => entry.specificity === null);
  const hidden = new Set(unmatched.slice(MOST_UNMATCHED));
  return {
    considered: considered
      .filter((entry) => !hidden.has(entry))
      .map(({ policy, specificity, verdict }) => ({ policy: policy.name, priority: policy.priority, specificity, verdict })),
    notShown: hidden.size,
  };
}

const pathView = (path: PathView | undefined) =>
  path === undefined
    ? null
    : { id: path.id, version: path.version, current: path.current, movedTo: path.movedTo === 0 ? null : path.movedTo, services: path.services, encapsulation: path.encapsulation, deliver: path.deliver, exit: path.exit ?? 'weir', spi: { forward: path.id * 2, answers: path.id * 2 + 1 } };

/** Throws an Error where the capture is not one of the configuration's. */
export async function trace(subject: Subject, { frame, ...asked }: TraceRequest) {
  const { configuration, ids } = subject;
  const request = { ...asked, ...asOpened(configuration, { ...asked, vlan: asked.vlan[0] }), vlan: asked.vlan };
  const capture = configuration.captures.findIndex((candidate) => candidate.name === request.capture);
  if (capture < 0) throw new Error(`there is no capture "${request.capture}"`);
  const tuple: Tuple = { ...request, capture };
  const decision = await subject.describe(tuple);
  const path = subject.paths.get(decision.path);
  const { live } = decision;
  const instanceName = (id: number): string | null => (id < 0 ? null : (ids.instances.name(id) ?? `#${id}`));
  const livePath = live === null || live.action !== 'chain' ? undefined : subject.paths.get(live.path);
  const pinned = new Map(livePath?.services.map((service, i) => [service, instanceName(live?.pins[i] ?? -1)]));
  const final = finalFrame(subject.program, live === null ? tuple : { ...live, direction: live.opened }, decision, live, frame ?? null);
  return {
    stream: request,
    code: decision.code,
    action: decision.action,
    policy: decision.policy < 0 ? null : (ids.policies.name(decision.policy) ?? null),
    chain: path?.chain ?? null,
    path: pathView(path),
    ...shown(classify(configuration, { ...request, vlan: request.vlan[0] }).considered),
    hops: decision.hops.map((hop) => {
      const service = ids.services.name(hop.service) ?? null;
      return {
        service,
        /** What becomes of a new stream where nobody can be chosen. */
        fail: configuration.services.find(({ name }) => name === service)?.fail ?? 'closed',
        code: hop.code,
        ranked: hop.ranked.map((id) => {
          const name = ids.instances.name(id) ?? `#${id}`;
          return { instance: name, state: subject.stateOf(name) };
        }),
        chosen: instanceName(hop.chosen),
        /** Of the live stream, if its path visits the service. */
        pinned: service === null ? null : (pinned.get(service) ?? null),
      };
    }),
    live: live === null ? null : flowView(subject, live),
    livePath: pathView(livePath),
    final: final.sent ? { ...final, instance: instanceName(final.instance), underlay: underlayOf(subject, final.instance) } : final,
  };
}

/** Null: there is only one, or none leads to it. */
function underlayOf({ configuration: { underlays }, program }: Subject, id: number): string | null {
  const instance = program.instances.find((candidate) => candidate.id === id);
  const underlay = instance === undefined || instance.attach !== null || underlays.length < 2 ? undefined : underlays[instance.underlay ?? 0];
  return underlay === undefined ? null : underlayLabel(underlay);
}

export type Trace = Awaited<ReturnType<typeof trace>>;
