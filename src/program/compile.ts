/** Desired state and the facts of the moment to the one immutable program that native code runs. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIpv4 } from '../config/address.js';
import type { Configuration, ServiceConfig } from '../config/configuration.js';
import type { InstanceState, NativeInstance, NativePath, NativeProgram } from '../dataplane/native.js';
import type { Ids } from './ids.js';
import { Failure } from '../failure.js';
import { policyRows } from './policy-rows.js';

/** A version of a chain that streams may be on. */
export interface PathState {
  readonly id: number;
  readonly chain: string;
  readonly encapsulation: NativePath['encapsulation'];
  readonly answers: NativePath['answers'];
  readonly services: readonly string[];
  /** Path that its live streams go over to at their next packet; 0 to let them end here. */
  readonly movedTo: number;
}

/** What the configuration does not say. */
export interface Facts {
  readonly generation: number;
  readonly affinityKey: Uint8Array;
  readonly underlay: NativeProgram['underlay'];
  /** By capture index. */
  readonly captureMtus: readonly number[];
  /** Next hop's MAC of an instance's address, null while unresolved. */
  readonly macOf: (address: string) => string | null;
  /** State of `service/instance`. */
  readonly stateOf: (key: string) => InstanceState;
  readonly paths: readonly PathState[];
  /** Path that new streams of a chain take. */
  readonly currentPath: (chain: string) => number;
}

export const instanceKey = (service: string, instance: string): string => `${service}/${instance}`;

/** Rendezvous seeds: any member computes the same from the name alone. */
export function instanceSeed(key: string): readonly [number, number] {
  const digest = createHash('sha256').update(key).digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4)];
}

export function instancesOf(service: ServiceConfig, ids: Ids, facts: Pick<Facts, 'macOf' | 'stateOf'>): NativeInstance[] {
  return service.instances.map((instance) => {
    const key = instanceKey(service.name, instance.name);
    return {
      id: ids.instances.id(key),
      service: ids.services.id(service.name),
      address: instance.address,
      mac: facts.macOf(instance.address),
      state: facts.stateOf(key),
      weight: instance.weight,
      seed: instanceSeed(key),
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
    defaultAction: configuration.default,
    mssClamp: configuration.mssClamp === 'auto',
    idle: configuration.flows.idle,
    underlay: facts.underlay,
    captures: configuration.captures.map((capture, i) => ({ name: capture.name, tenant: capture.tenant, mtu: facts.captureMtus[i] ?? 1500 })),
    services: configuration.services.map((service) => ({
      id: ids.services.id(service.name),
      affinity: service.affinity,
      onFailure: service.onFailure,
      fail: service.fail,
    })),
    instances: configuration.services.flatMap((service) => instancesOf(service, ids, facts)),
    paths: facts.paths.map((path) => ({
      id: path.id,
      chain: ids.chains.id(path.chain),
      encapsulation: path.encapsulation,
      answers: path.answers,
      services: path.services.map((name) => ids.services.id(name)),
      movedTo: path.movedTo,
    })),
    chains: configuration.chains.map((chain) => ({ id: ids.chains.id(chain.name), path: facts.currentPath(chain.name) })),
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
    services: chain.services,
    movedTo: 0,
  }));
}

/**
 * Facts for replay and simulation: the same on every machine. Tunnel sources 192.0.2.1 and 2001:db8::1 unless configured,
 * locally administered MACs, MTU 1500, an all-zero affinity key unless a file is named.
 */
export function replayFacts(configuration: Configuration): Facts {
  const paths = initialPaths(configuration);
  const configured = configuration.underlay?.address ?? null;
  const mtu = configuration.underlay?.mtu ?? 1500;
  const addresses = configuration.services.flatMap((service) => service.instances.map((instance) => instance.address));
  const macs = new Map(addresses.map((address, i) => [address, `02:00:00:01:${hex(i >> 8)}:${hex(i & 255)}`]));
  return {
    generation: 1,
    affinityKey: configuration.affinityKeyFile === null ? new Uint8Array(16) : loadAffinityKey(configuration.affinityKeyFile),
    underlay: {
      ipv4: configured !== null && isIpv4(configured) ? configured : '192.0.2.1',
      ipv6: configured !== null && !isIpv4(configured) ? configured : '2001:db8::1',
      mac: '02:00:00:00:00:01',
      mtu,
    },
    captureMtus: configuration.captures.map(() => 1500),
    macOf: (address) => macs.get(address) ?? null,
    stateOf: () => 'up',
    paths,
    currentPath: (chain) => paths.find((path) => path.chain === chain)?.id ?? 0,
  };
}

function hex(byte: number): string {
  return (byte & 255).toString(16).padStart(2, '0');
}
