/** The document's value, known to be valid, to the desired state: defaults filled in, short forms written out. */
import { dirname, resolve } from 'node:path';
import type { Affinity, Encapsulation } from '../dataplane/native.js';
import { canonical } from './address.js';
import type { Action, AttachConfig, CaptureConfig, ChainConfig, Configuration, MatchConfig, PlainDocument, PolicyConfig, PortRange, ServiceConfig, SyncMode } from './configuration.js';
import { health, type RawHealth } from './health.js';
import { durationMs, many, type OneOrMany } from './forms.js';
import { KeptEnds } from './kept-ends.js';
import { REPORT_PORT } from './limits.js';
import { mesh, type RawMesh } from './mesh.js';
import { placement, type RawPlacement } from './placement.js';
import { scale, type RawScale } from './scale.js';
import { parseListen } from './listen.js';
import { underlays, type RawUnderlays } from './underlays.js';
import { endingServices } from './virtual-services.js';
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
  return?: 'hub' | 'mesh';
  exit?: 'weir' | 'direct';
  encapsulation?: Encapsulation;
  answers?: 'backwards' | 'forwards';
  deliver?: boolean;
  virtual_addresses?: readonly string[];
}

export interface RawAttach {
  in?: string;
  out?: string;
  vlan?: number | { in: number; out: number };
  via?: string | { in: string; out: string };
}

export interface RawService {
  instances: readonly { name: string; address?: string; underlay?: string; weight?: number; attach?: RawAttach }[];
  affinity?: Affinity;
  on_failure?: 'rebalance' | 'hold';
  fail?: 'open' | 'closed';
  health?: RawHealth;
  balancer?: ServiceConfig['balancer'];
  placement?: RawPlacement;
  scale?: RawScale;
  sync?: SyncMode;
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
  underlay?: RawUnderlays;
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
  control?: { socket?: string; mode?: string; read_only_group?: string };
  state_dir?: string;
  affinity_key?: { file: string };
  load?: { key: { file: string }; port?: number };
  mesh?: RawMesh;
  metrics?: { listen: string; public?: boolean };
  log?: { level?: Configuration['log']['level'] };
}

export const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

export function portRange(value: string | number): PortRange {
  const [low = '', high = low] = String(value).split('-');
  return { low: Number(low), high: Number(high) };
}

/** Services on mesh chains. */
const handingOn = ({ chains = {} }: RawConfiguration): string[] => Object.values(chains).flatMap((chain) => (!Array.isArray(chain) && (chain as RawChain).return === 'mesh' ? (chain as RawChain).services : []));

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

function attachment({ in: inside = '', out = '', vlan, via }: RawAttach): AttachConfig {
  if (via !== undefined) {
    const sides = typeof via === 'string' ? { in: via, out: via } : via;
    return { kind: 'routed', in: canonical(sides.in), out: canonical(sides.out) };
  }
  return { kind: 'bump', in: inside, out, vlan: typeof vlan === 'object' ? vlan : { in: vlan ?? 0, out: vlan ?? 0 } };
}

/** `ends`: a chain delivers there, or its instances hand on to others, so they return nothing, which says nothing of them. */
function service(name: string, raw: RawService, ends: boolean): ServiceConfig {
  const watched = raw.health === undefined ? null : health(raw.health);
  return {
    name,
    instances: raw.instances.map((instance) => ({
      name: instance.name,
      address: instance.address === undefined ? null : canonical(instance.address),
      attach: instance.attach === undefined ? null : attachment(instance.attach),
      underlay: instance.underlay ?? null,
      weight: instance.weight ?? 1,
    })),
    affinity: raw.affinity ?? '5-tuple',
    onFailure: raw.on_failure ?? 'rebalance',
    fail: raw.fail ?? 'closed',
    balancer: raw.balancer ?? 'forwarder',
    health: ends && watched !== null && watched.passive !== null ? { ...watched, passive: { ...watched.passive, silent: null } } : watched,
    placement: placement(raw.placement),
    scale: scale(raw.scale),
    sync: raw.sync ?? 'off',
  };
}

function chain(name: string, raw: RawChain | readonly string[], encapsulation: Encapsulation): ChainConfig {
  const long: RawChain = Array.isArray(raw) ? { services: raw as readonly string[] } : (raw as RawChain);
  return {
    name,
    services: long.services,
    return: long.return ?? 'hub',
    exit: long.exit ?? 'weir',
    encapsulation: long.encapsulation ?? encapsulation,
    answers: long.answers ?? 'backwards',
    deliver: long.deliver ?? false,
    virtualAddresses: (long.virtual_addresses ?? []).map(canonical),
  };
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

const lastPolicies = new KeptEnds(policy);

function policies(raw: readonly RawPolicy[]): readonly PolicyConfig[] {
  const known = policiesOf.get(raw) ?? lastPolicies.map(raw);
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
  const ending = new Set([...endingServices(raw.chains), ...handingOn(raw)]);
  return {
    source: { file, document: raw as unknown as PlainDocument },
    underlays: underlays(raw.underlay),
    captures: captures(raw),
    services: Object.entries(raw.services ?? {}).map(([name, value]) => service(name, value, ending.has(name))),
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
    control: { socket: raw.control?.socket ?? '/run/weir/weir.sock', mode: parseInt(raw.control?.mode ?? '0660', 8), readOnlyGroup: raw.control?.read_only_group ?? null },
    stateDir: raw.state_dir ?? '/var/lib/weir',
    affinityKeyFile: raw.affinity_key === undefined ? null : resolve(dirname(file), raw.affinity_key.file),
    load: raw.load === undefined ? null : { port: raw.load.port ?? REPORT_PORT, keyFile: resolve(dirname(file), raw.load.key.file) },
    mesh: mesh(raw.mesh, (name) => resolve(dirname(file), name)),
    metrics: raw.metrics === undefined ? null : parseListen(raw.metrics.listen),
    log: { level: raw.log?.level ?? 'info' },
  };
}
