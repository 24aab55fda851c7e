/** What a running weir decides by, as it crosses the control socket: so that `weir diff` can decide as it does, elsewhere. */
import type { Configuration } from '../config/configuration.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { InstanceState, NativeProgram } from '../dataplane/native.js';
import { instanceKey, type Facts } from '../program/compile.js';
import type { ElasticMember } from '../scale/members.js';

export interface ExplainFacts {
  readonly generation: number;
  /** With everything that was changed since the start, and the policies that are in force. */
  readonly configuration: Omit<Configuration, 'source'>;
  /** The named configuration that is in force; null: none. */
  readonly variant: string | null;
  /** Hexadecimal. Whoever may ask may also reconfigure, so it tells them nothing that they could not set. */
  readonly affinityKey: string;
  readonly underlays: NativeProgram['underlays'];
  /** Addresses of instances that are reached by another underlay than the first, with its number. */
  readonly elsewhere: Readonly<Record<string, number>>;
  readonly captureMtus: readonly number[];
  /** Instances that hooks of `scale:` started: they stay, whatever document comes. */
  readonly elastic: readonly ElasticMember[];
  /** Of instances that are not up, by `service/instance`. */
  readonly states: Readonly<Record<string, InstanceState>>;
  /** Addresses of instances that no neighbour entry is known for. */
  readonly unresolved: readonly string[];
}

export function factsOf(dataplane: Dataplane): ExplainFacts {
  const { program, generation } = dataplane;
  const { source: _, ...configuration } = dataplane.inForce;
  const keys = configuration.services.flatMap((service) => service.instances.map((instance) => instanceKey(service.name, instance.name)));
  // An attachment that is not there is as good as an instance that is down.
  const detached = new Set(program.instances.filter(({ attach }) => attach !== null && !attach.up).map(({ id }) => dataplane.ids.instances.name(id)));
  return {
    generation,
    configuration,
    variant: dataplane.conditions.inForce.variant?.name ?? null,
    affinityKey: Buffer.from(program.affinityKey).toString('hex'),
    underlays: program.underlays,
    elsewhere: Object.fromEntries(program.instances.flatMap(({ address, underlay = 0 }) => (address === null || underlay === 0 ? [] : [[address, underlay] as const]))),
    captureMtus: program.captures.map((capture) => capture.mtu),
    elastic: dataplane.scaler.members(),
    states: Object.fromEntries(keys.map((key) => [key, detached.has(key) ? 'down' : dataplane.stateOf(key)] as const).filter(([, state]) => state !== 'up')),
    unresolved: program.instances.flatMap(({ mac, address }) => (mac === null && address !== null ? [address] : [])),
  };
}

/** The same where it arrived, for any configuration: what that one adds (instances, captures) is up and resolved. */
export function known(facts: ExplainFacts): Partial<Facts> {
  const unresolved = new Set(facts.unresolved);
  return {
    generation: facts.generation,
    affinityKey: Buffer.from(facts.affinityKey, 'hex'),
    underlays: facts.underlays,
    underlayOf: (address) => facts.elsewhere[address] ?? 0,
    captureMtus: facts.captureMtus,
    macOf: (address) => (unresolved.has(address) ? null : '02:00:00:00:00:02'),
    stateOf: (key) => facts.states[key] ?? 'up',
  };
}
