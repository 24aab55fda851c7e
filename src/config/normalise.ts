/** The document's value, known to be valid, to the desired state: defaults filled in, short forms written out. */
import { dirname, resolve } from 'node:path';
import type { Affinity, Encapsulation } from '../dataplane/native.js';
import { canonical } from './address.js';
import type { Action, CaptureConfig, ChainConfig, Configuration, MatchConfig, PlainDocument, PolicyConfig, PortRange, ServiceConfig } from './configuration.js';
import { durationMs, many, type OneOrMany } from './forms.js';
import { switches, variants, type RawSwitches, type RawVariants } from './variants.js';

export { durationMs, many } from './forms.js';

export interface RawMatch {
  capture?: OneOrMany<string>;
  vlan?: OneOrMany<number>;
  direction?: OneOrMany<'out' | 'in'>;
  protocol?: OneOrMany<string | number>;
  source?: OneOrMany<string>;
  destination?: OneOrMany<string>;
  source_port?: OneOrMany<string | number>;
  destination_port?: OneOrMany<string | number>;
}

export interface RawChain {
  services: readonly string[];
  return?: 'hub';
  encapsulation?: Encapsulation;
  answers?: 'backwards' | 'forwards';
}

export interface RawService {
  instances: readonly { name: string; address: string; weight?: number }[];
  affinity?: Affinity;
  on_failure?: 'rebalance' | 'hold';
  fail?: 'open' | 'closed';
  health?: { tcp: number; interval?: string; timeout?: string; rise?: number; fall?: number };
}

export interface RawPolicy {
  name: string;
  priority?: number;
  match: RawMatch;
  chain?: string;
  action?: 'pass' | 'drop';
}

/** The document as the schema admits it. */
export interface RawConfiguration {
  underlay?: { interface: string; address?: string; mtu?: number };
  captures: readonly { name: string; in: string; out: string; tenant?: number }[];
  services?: Record<string, RawService>;
  chains?: Record<string, RawChain | readonly string[]>;
  policies?: readonly RawPolicy[];
  switches?: RawSwitches;
  configurations?: RawVariants;
  default?: 'pass' | 'drop';
  encapsulation?: Encapsulation;
  port?: 'ring' | 'pcap';
  workers?: number | 'auto';
  flows?: { max?: number; idle?: { tcp?: string; other?: string; closed?: string } };
  mss_clamp?: 'auto' | 'off';
  control?: { socket?: string; mode?: string };
  state_dir?: string;
  affinity_key?: { file: string };
  log?: { level?: Configuration['log']['level'] };
}

export const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

export function portRange(value: string | number): PortRange {
  const [low = '', high = low] = String(value).split('-');
  return { low: Number(low), high: Number(high) };
}

function captures(raw: RawConfiguration): CaptureConfig[] {
  const taken = new Set(raw.captures.flatMap((capture) => (capture.tenant === undefined ? [] : [capture.tenant])));
  return raw.captures.map((capture) => {
    let tenant = capture.tenant;
    if (tenant === undefined) {
      tenant = 0;
      while (taken.has(tenant)) tenant++;
      taken.add(tenant);
    }
    return { name: capture.name, in: capture.in, out: capture.out, tenant };
  });
}

function service(name: string, raw: RawService): ServiceConfig {
  return {
    name,
    instances: raw.instances.map((instance) => ({ name: instance.name, address: canonical(instance.address), weight: instance.weight ?? 1 })),
    affinity: raw.affinity ?? '5-tuple',
    onFailure: raw.on_failure ?? 'rebalance',
    fail: raw.fail ?? 'closed',
    health:
      raw.health === undefined
        ? null
        : {
            tcp: raw.health.tcp,
            intervalMs: durationMs(raw.health.interval ?? '1s'),
            timeoutMs: durationMs(raw.health.timeout ?? '500ms'),
            rise: raw.health.rise ?? 2,
            fall: raw.health.fall ?? 3,
          },
  };
}

function chain(name: string, raw: RawChain | readonly string[], encapsulation: Encapsulation): ChainConfig {
  const long: RawChain = Array.isArray(raw) ? { services: raw as readonly string[] } : (raw as RawChain);
  return { name, services: long.services, return: 'hub', encapsulation: long.encapsulation ?? encapsulation, answers: long.answers ?? 'backwards' };
}

export function match(raw: RawMatch): MatchConfig {
  const [direction, another] = new Set(many(raw.direction));
  return {
    captures: many(raw.capture),
    vlans: many(raw.vlan),
    direction: another === undefined ? (direction ?? null) : null,
    protocols: many(raw.protocol).map((protocol) => (typeof protocol === 'number' ? protocol : (PROTOCOLS[protocol] ?? 255))),
    sources: many(raw.source),
    destinations: many(raw.destination),
    sourcePorts: many(raw.source_port).map(portRange),
    destinationPorts: many(raw.destination_port).map(portRange),
  };
}

/** By what was written, which never changes: of a hundred thousand policies an edit makes one anew. */
const policyOf = new WeakMap<RawPolicy, PolicyConfig>();
const policiesOf = new WeakMap<readonly RawPolicy[], readonly PolicyConfig[]>();

function policies(raw: readonly RawPolicy[]): readonly PolicyConfig[] {
  const known = policiesOf.get(raw) ?? raw.map(policy);
  policiesOf.set(raw, known);
  return known;
}

function policy(raw: RawPolicy): PolicyConfig {
  const known = policyOf.get(raw) ?? makePolicy(raw);
  policyOf.set(raw, known);
  return known;
}

function makePolicy(raw: RawPolicy): PolicyConfig {
  const action: Action = raw.chain !== undefined ? { kind: 'chain', chain: raw.chain } : { kind: raw.action ?? 'pass' };
  return { name: raw.name, priority: raw.priority ?? 0, match: match(raw.match), action };
}

/** `file`: where the document stands; paths in it are relative to its directory. */
export function normalise(raw: RawConfiguration, file: string): Configuration {
  const encapsulation = raw.encapsulation ?? 'nsh';
  return {
    source: { file, document: raw as unknown as PlainDocument },
    underlay: raw.underlay === undefined ? null : { interface: raw.underlay.interface, address: raw.underlay.address === undefined ? null : canonical(raw.underlay.address), mtu: raw.underlay.mtu ?? null },
    captures: captures(raw),
    services: Object.entries(raw.services ?? {}).map(([name, value]) => service(name, value)),
    chains: Object.entries(raw.chains ?? {}).map(([name, value]) => chain(name, value, encapsulation)),
    policies: policies(raw.policies ?? []),
    switches: switches(raw.switches),
    configurations: variants(raw.configurations, policies),
    default: raw.default ?? 'pass',
    port: raw.port ?? 'ring',
    workers: raw.workers ?? 'auto',
    flows: {
      max: raw.flows?.max ?? 1_000_000,
      idle: {
        tcp: durationMs(raw.flows?.idle?.tcp ?? '350s'),
        other: durationMs(raw.flows?.idle?.other ?? '120s'),
        closed: durationMs(raw.flows?.idle?.closed ?? '5s'),
      },
    },
    mssClamp: raw.mss_clamp ?? 'auto',
    control: { socket: raw.control?.socket ?? '/run/weir/weir.sock', mode: parseInt(raw.control?.mode ?? '0660', 8) },
    stateDir: raw.state_dir ?? '/var/lib/weir',
    affinityKeyFile: raw.affinity_key === undefined ? null : resolve(dirname(file), raw.affinity_key.file),
    log: { level: raw.log?.level ?? 'info' },
  };
}
