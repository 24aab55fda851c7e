/** Desired state and the facts of the moment to the one immutable program that native code runs. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIpv4 } from '../config/address.js';
import { virtualMac } from '../config/virtual-services.js';
import type { AttachConfig, Configuration, ServiceConfig, UnderlayConfig } from '../config/configuration.js';
import type { InstanceState, NativeAttachment, NativeInstance, NativePath, NativeProbe, NativeProgram, NativeProxyPort, NativeUnderlay } from '../dataplane/native.js';
import type { Ids } from './ids.js';
import { Failure } from '../failure.js';
import { imaginedAttachments } from './attachments.js';
import { destinationsOf, underlayNumber } from './destinations.js';
import { weightsFor } from '../load/placement.js';
import { policyRows } from './policy-rows.js';

/** An instance that may serve streams of a path: one run of it, since with the process its state is gone. */
export interface PathMember {
  /** `service/instance`. */
  readonly key: string;
  readonly session: string;
  /** As it was when it came to the path. */
  readonly weight: number;
  /** Who came after the path was made serves what nobody of a lower tier is left to serve; absent: 0, the path was made with it. */
  readonly tier?: number;
}

/** A version of a chain that streams may be on. */
export interface PathState {
  readonly id: number;
  readonly chain: string;
  readonly encapsulation: NativePath['encapsulation'];
  readonly answers: NativePath['answers'];
  readonly deliver: boolean;
  readonly services: readonly string[];
  /** Path that its live streams go over to at their next packet; 0 to let them end here. */
  readonly movedTo: number;
  /** Default hub. */
  readonly return?: 'hub' | 'mesh';
  /** Default weir. */
  readonly exit?: 'weir' | 'direct';
  /** By position, in the order of their tiers and then of their keys; null or absent: any instance of the service. */
  readonly members?: readonly (readonly PathMember[])[] | null;
  /** Runs of instances that were members and were given up: they don't come back to it. Absent: none that still runs. */
  readonly former?: readonly Pick<PathMember, 'key' | 'session'>[];
}

/** What the configuration does not say. */
export interface Facts {
  readonly generation: number;
  readonly affinityKey: Uint8Array;
  /** 16 random bytes; absent: zeros, where no probes are sent. */
  readonly probeKey?: Uint8Array;
  readonly underlays: readonly NativeUnderlay[];
  /** By capture index. */
  readonly captureMtus: readonly number[];
  /** Next hop's MAC of an instance's address, null while unresolved. */
  readonly macOf: (address: string) => string | null;
  /** Number of the underlay that an address is reached by where the configuration does not say; null: not known. Default: the first. */
  readonly underlayOf?: (address: string) => number | null;
  /** What packets to an address may measure on their way, where that may be less than the underlay's MTU; null: not known to be. Default: never. */
  readonly mtuOf?: (address: string) => number | null;
  /** Interfaces of attached instances, in the order of their ports. */
  readonly proxyPorts: readonly NativeProxyPort[];
  readonly attachmentOf: (attach: AttachConfig) => NativeAttachment;
  /** What weights are multiplied by, by `service/instance`: at most 1; 0: it gets no new streams; absent: 1. */
  readonly factorOf?: (key: string) => number;
  /** State of `service/instance`. */
  readonly stateOf: (key: string) => InstanceState;
  readonly paths: readonly PathState[];
  /** Policies whose live streams are decided again, and since which generation. */
  readonly moves: readonly { readonly policy: string; readonly generation: number }[];
  /** Path that new streams of a chain take. */
  readonly currentPath: (chain: string) => number;
}

export const instanceKey = (service: string, instance: string): string => `${service}/${instance}`;

/** Rendezvous seeds: any member computes the same from the name alone. */
export function instanceSeed(key: string): readonly [number, number] {
  const digest = createHash('sha256').update(key).digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4)];
}

/** `first`: encapsulation of the first chain that has the service. */
function probeOf({ health }: ServiceConfig, first: NativePath['encapsulation']): NativeProbe | null {
  if (health?.check?.kind !== 'probe') return null;
  const { intervalMs, timeoutMs, rise, fall, check } = health;
  return { intervalMs, timeoutMs, rise, fall, encapsulation: check.encapsulation ?? first };
}

/** The first in rank that can be it: where a group has a primary node, new streams go there. Null: nobody can, or it has none. */
export function primaryOf({ name, balancer, instances }: ServiceConfig, { stateOf, macOf }: Pick<Facts, 'stateOf' | 'macOf'>): string | null {
  if (balancer === 'forwarder' || balancer === 'units') return null;
  return instances.find((instance) => stateOf(instanceKey(name, instance.name)) === 'up' && instance.address !== null && macOf(instance.address) !== null)?.name ?? null;
}

/** Instances of a group that are up and not its primary. */
function withPrimary(service: ServiceConfig, facts: Pick<Facts, 'stateOf' | 'macOf'>): ReadonlySet<string> {
  const primary = service.balancer === 'primary' ? primaryOf(service, facts) : null;
  return new Set(primary === null ? [] : service.instances.map(({ name }) => name).filter((name) => name !== primary && facts.stateOf(instanceKey(service.name, name)) === 'up'));
}

export function instancesOf(service: ServiceConfig, ids: Ids, facts: Pick<Facts, 'macOf' | 'underlayOf' | 'mtuOf' | 'attachmentOf' | 'stateOf' | 'factorOf'>, encapsulation: NativePath['encapsulation'] = 'nsh', configuration: Pick<Configuration, 'underlays'> = { underlays: [] }): NativeInstance[] {
  const probe = probeOf(service, encapsulation);
  const weights = service.instances.map((instance) => instance.weight);
  const placed = service.placement === null && service.balancer !== 'primary_shares' ? weights : weightsFor(weights, service.instances.map((instance) => facts.factorOf?.(instanceKey(service.name, instance.name)) ?? 1));
  const directed = withPrimary(service, facts);
  return service.instances.map((instance, i) => {
    const key = instanceKey(service.name, instance.name);
    return {
      id: ids.instances.id(key),
      service: ids.services.id(service.name),
      address: instance.address,
      mac: instance.attach !== null || instance.address === null ? null : facts.macOf(instance.address),
      underlay: instance.attach !== null || instance.address === null ? 0 : (underlayNumber(configuration, instance.underlay) ?? facts.underlayOf?.(instance.address) ?? 0),
      mtu: instance.attach !== null || instance.address === null ? null : (facts.mtuOf?.(instance.address) ?? null),
      attach: instance.attach === null ? null : facts.attachmentOf(instance.attach),
      // Those that the primary directs streams to keep them, and get none from here.
      state: directed.has(instance.name) || (facts.factorOf?.(key) === 0 && facts.stateOf(key) === 'up') ? 'draining' : facts.stateOf(key),
      weight: placed[i] ?? instance.weight,
      seed: instanceSeed(key),
      probe: instance.attach === null ? probe : null,
    };
  });
}

/** Rules depend on these alone, so a change of a chain, an instance or a neighbour need not make a million of them anew. */
interface EncodedRules {
  readonly captures: Configuration['captures'];
  readonly ids: Ids;
  readonly rows: Uint8Array;
}
const encoded = new WeakMap<Configuration['policies'], EncodedRules>();

function rulesOf(configuration: Configuration, ids: Ids): Uint8Array {
  const { captures, policies } = configuration;
  const known = encoded.get(policies);
  if (known !== undefined && known.captures === captures && known.ids === ids) return known.rows;
  const rows = policyRows(configuration, ids);
  encoded.set(policies, { captures, ids, rows });
  return rows;
}

/**
 * The program for a configuration at a moment. Ids are taken from `ids`, which keeps them for the life of a process; facts are
 * what the machine, the operator and the past of the process add. Throws a RangeError when there are too many rules or names.
 */
export function compile(configuration: Configuration, ids: Ids, facts: Facts): NativeProgram {
  return {
    generation: facts.generation,
    affinityKey: facts.affinityKey,
    ...(facts.probeKey === undefined ? {} : { probeKey: facts.probeKey }),
    defaultAction: configuration.default,
    mssClamp: configuration.mssClamp === 'auto',
    idle: configuration.flows.idle,
    underlays: facts.underlays,
    captures: configuration.captures.map((capture, i) => ({ name: capture.name, tenant: capture.tenant, mtu: facts.captureMtus[i] ?? 1500 })),
    proxyPorts: facts.proxyPorts,
    services: configuration.services.map((service) => ({
      id: ids.services.id(service.name),
      affinity: service.affinity,
      onFailure: service.onFailure,
      fail: service.fail,
      ...(service.balancer === 'primary' || service.balancer === 'units' ? { primary: true } : {}),
    })),
    instances: configuration.services.flatMap((service) => instancesOf(service, ids, facts, configuration.chains.find((chain) => chain.services.includes(service.name))?.encapsulation, configuration)),
    paths: facts.paths.map((path) => ({
      id: path.id,
      chain: ids.chains.id(path.chain),
      encapsulation: path.encapsulation,
      answers: path.answers,
      deliver: path.deliver,
      services: path.services.map((name) => ids.services.id(name)),
      movedTo: path.movedTo,
      ...(path.members == null ? {} : { members: path.members.map((list) => list.flatMap(({ key, weight, tier = 0 }) => [ids.instances.id(key), weight, tier])) }),
    })),
    chains: configuration.chains.map((chain) => ({ id: ids.chains.id(chain.name), path: facts.currentPath(chain.name) })),
    virtualAddresses: configuration.chains.flatMap((chain) => chain.virtualAddresses.map((address) => ({ address, mac: virtualMac(address) }))),
    moves: facts.moves.map(({ policy, generation }) => ({ policy: ids.policies.id(policy), generation })),
    rules: rulesOf(configuration, ids),
  };
}

/** The key's 16 bytes from a file that holds them raw or as 32 hexadecimal digits. Throws a Failure that says what to do. */
export function loadAffinityKey(file: string): Uint8Array {
  const make = `Make one with: head -c 16 /dev/urandom > ${file}`;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new Failure(`affinity_key.file: can't read ${file} (${(error as NodeJS.ErrnoException).code ?? String(error)}). ${make}`, 2);
  }
  if (bytes.length === 16) return bytes;
  const text = bytes.toString('latin1').trim();
  if (!/^[0-9a-fA-F]{32}$/.test(text)) {
    throw new Failure(`affinity_key.file: expected 16 bytes or 32 hexadecimal digits in ${file}, found ${bytes.length} bytes. ${make}`, 2);
  }
  return Buffer.from(text, 'hex');
}

/** One path per chain, numbered from 1 in document order. */
export function initialPaths(configuration: Configuration): PathState[] {
  return configuration.chains.map((chain, i) => ({
    id: i + 1,
    chain: chain.name,
    encapsulation: chain.encapsulation,
    answers: chain.answers,
    deliver: chain.deliver,
    return: chain.return,
    exit: chain.exit,
    services: chain.services,
    movedTo: 0,
  }));
}

/**
 * Facts for replay and simulation: the same on every machine. Tunnel sources 192.0.2.1 and 2001:db8::1 unless configured (on the
 * second underlay 192.0.2.2 and 2001:db8::2, and so on), instances on the first underlay unless they say another, locally administered MACs, MTU 1500, an all-zero affinity key unless a file is named.
 */
export function replayFacts(configuration: Configuration): Facts {
  const paths = initialPaths(configuration);
  const configured: readonly Partial<Pick<UnderlayConfig, 'address' | 'mtu' | 'fragment'>>[] = configuration.underlays.length === 0 ? [{}] : configuration.underlays;
  const mtus = configured.map(({ mtu }) => mtu ?? 1500);
  const addresses = destinationsOf(configuration).map(({ address }) => address);
  const macs = new Map(addresses.map((address, i) => [address, `02:00:00:01:${hex(i >> 8)}:${hex(i & 255)}`]));
  return {
    generation: 1,
    affinityKey: configuration.affinityKeyFile === null ? new Uint8Array(16) : loadAffinityKey(configuration.affinityKeyFile),
    underlays: configured.map(({ address = null, fragment = false }, i) => ({
      ipv4: address !== null && isIpv4(address) ? address : `192.0.2.${1 + i}`,
      ipv6: address !== null && !isIpv4(address) ? address : `2001:db8::${(1 + i).toString(16)}`,
      mac: `02:00:00:00:00:${hex(1 + i)}`,
      mtu: mtus[i] ?? 1500,
      ...(fragment ? { fragment } : {}),
    })),
    // Nothing is too long for a file.
    captureMtus: configuration.captures.map(() => Math.max(1500, ...mtus)),
    macOf: (address) => macs.get(address) ?? null,
    ...imaginedAttachments(configuration),
    stateOf: () => 'up',
    paths,
    moves: [],
    currentPath: (chain) => paths.find((path) => path.chain === chain)?.id ?? 0,
  };
}

function hex(byte: number): string {
  return (byte & 255).toString(16).padStart(2, '0');
}
