/**
 * The desired state as the rest of weir sees it: the YAML document after validation, with every default filled in,
 * durations in milliseconds and short forms written out. Snake_case keys of the document become camelCase here.
 */
import type { Affinity, Encapsulation } from '../dataplane/native.js';
import type { SwitchConfig } from './conditions.js';
import type { ScaleConfig } from './scale.js';
import type { VariantConfig } from './variants.js';

export interface CaptureConfig {
  readonly name: string;
  readonly in: string;
  readonly out: string;
  /** Distinct among captures; given, or the lowest free number in document order. */
  readonly tenant: number;
}

export type HealthCheck =
  | { readonly kind: 'tcp'; readonly port: number }
  | { readonly kind: 'http'; readonly port: number; readonly path: string; readonly status: PortRange }
  /** A stamped packet with the O bit. Null: stamped as the first chain that has the service. */
  | { readonly kind: 'probe'; readonly encapsulation: Encapsulation | null };

/** What traffic must show to take an instance out; null: that is not looked at. */
export interface PassiveConfig {
  /** ICMP "unreachable" about its packets. */
  readonly unreachable: number | null;
  /** Packets sent without any returned. */
  readonly silent: number | null;
  /** Where there is no check: how long until it is tried again. */
  readonly recheckMs: number;
}

export interface HealthConfig {
  /** Null: only passive. */
  readonly check: HealthCheck | null;
  readonly passive: PassiveConfig | null;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly rise: number;
  readonly fall: number;
}

/** Interfaces (bump) or addresses (routed) by which an instance is reached that knows nothing of stamps. VLAN ids: 0 for no tag. */
export type AttachConfig =
  | { readonly kind: 'bump'; readonly in: string; readonly out: string; readonly vlan: { readonly in: number; readonly out: number } }
  | { readonly kind: 'routed'; readonly in: string; readonly out: string };

/** New streams prefer instances that have less to do. */
export interface PlacementConfig {
  readonly metric: 'cpu' | 'packets_per_second' | 'bytes_per_second' | 'streams' | 'queue';
  /** Share of its weight that an instance keeps however busy it is, 0 to 1. */
  readonly least: number;
  /** From one change of shares to the next, at least. */
  readonly intervalMs: number;
}

export interface InstanceConfig {
  readonly name: string;
  /** Where stamped packets go; null is possible only with `attach`, where it serves health checks alone. */
  readonly address: string | null;
  readonly attach: AttachConfig | null;
  /** Name of the underlay that it is reached by; null: the kernel's route to its address says. */
  readonly underlay: string | null;
  readonly weight: number;
}

/** `strict`: a packet leaves only when the state that it made is kept twice. */
export type SyncMode = 'off' | 'async' | 'strict';

export interface ServiceConfig {
  readonly name: string;
  readonly instances: readonly InstanceConfig[];
  readonly affinity: Affinity;
  readonly onFailure: 'rebalance' | 'hold';
  readonly fail: 'open' | 'closed';
  /**
   * Who decides which instance a new stream gets: weir, the primary node of the group, weir by the shares that the primary publishes, or weir and the
   * units of an appliance, which pass streams on to each other.
   */
  readonly balancer: 'forwarder' | 'primary' | 'primary_shares' | 'units';
  readonly health: HealthConfig | null;
  /** Null: the service map alone decides. */
  readonly placement: PlacementConfig | null;
  /** Null: there are the instances that are written down. */
  readonly scale: ScaleConfig | null;
  /** Whether the state of a stream is also kept by the instance that would take it over. */
  readonly sync: SyncMode;
}

export interface ChainConfig {
  readonly name: string;
  readonly services: readonly string[];
  /** `mesh`: an instance sends a packet to the next one itself, and the last one back to weir. */
  readonly return: 'hub' | 'mesh';
  /** Where packets of the opener's side leave the chain: at weir, or at the host of the last instance. */
  readonly exit: 'weir' | 'direct';
  readonly encapsulation: Encapsulation;
  /** Order in which answers visit the services. */
  readonly answers: 'backwards' | 'forwards';
  /** The last service keeps what it gets and answers by itself. */
  readonly deliver: boolean;
  /** Addresses whose neighbours weir answers for; only where it delivers. */
  readonly virtualAddresses: readonly string[];
}

export interface PortRange {
  readonly low: number;
  readonly high: number;
}

/** Empty arrays and nulls mean "any". */
export interface MatchConfig {
  readonly captures: readonly string[];
  readonly vlans: readonly number[];
  readonly direction: 'out' | 'in' | null;
  /** IP protocol numbers. */
  readonly protocols: readonly number[];
  /** CIDR text; a bare address is its /32 or /128. */
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly sourcePorts: readonly PortRange[];
  readonly destinationPorts: readonly PortRange[];
}

export type Action = { readonly kind: 'pass' } | { readonly kind: 'drop' } | { readonly kind: 'chain'; readonly chain: string };

export interface PolicyConfig {
  readonly name: string;
  /** Higher first; default 0. */
  readonly priority: number;
  readonly match: MatchConfig;
  readonly action: Action;
}

/** A network that instances are reached on. */
export interface UnderlayConfig {
  /** Null: it is the only one, and written without a name. */
  readonly name: string | null;
  readonly interface: string;
  /** Tunnel source; null: the interface's first address. Replay never asks the machine and uses 192.0.2.1 / 2001:db8::1 then, with a last number one higher for each further underlay. */
  readonly address: string | null;
  /** null: the interface's MTU (1500 in replay). */
  readonly mtu: number | null;
  /** What can't be cut and does not fit leaves in fragments of the outer packet. */
  readonly fragment: boolean;
}

/** What service nodes of mesh chains are known by. */
export interface MeshConfig {
  readonly keyFile: string;
  readonly port: number;
  /** A node that has not been heard of for so long has failed. */
  readonly leaseMs: number;
}

/** Where metrics are served over HTTP. */
export interface MetricsConfig {
  /** An IP address of this host. */
  readonly host: string;
  readonly port: number;
}

/** A document as plain JSON: what the user wrote, before defaults and short forms. Never changed in place: what is known of its parts is remembered by their identity. */
export type PlainDocument = Readonly<Record<string, unknown>>;

export interface Configuration {
  /** What this was made of; `file` is what relative paths in it are relative to. */
  readonly source: { readonly file: string; readonly document: PlainDocument };
  /** Empty where nothing is reached by stamped packets. */
  readonly underlays: readonly UnderlayConfig[];
  readonly captures: readonly CaptureConfig[];
  readonly services: readonly ServiceConfig[];
  readonly chains: readonly ChainConfig[];
  /** While no named configuration is in force. */
  readonly policies: readonly PolicyConfig[];
  readonly switches: readonly SwitchConfig[];
  /** As written; which is in force is src/conditions. */
  readonly configurations: readonly VariantConfig[];
  readonly default: 'pass' | 'drop';
  readonly port: 'ring' | 'pcap';
  readonly workers: number | 'auto';
  readonly flows: { readonly max: number; readonly idle: { readonly tcp: number; readonly other: number; readonly closed: number } };
  readonly mssClamp: 'auto' | 'off';
  /** `readOnlyGroup`: name or number of a group whose members may ask and change nothing. */
  readonly control: { readonly socket: string; readonly mode: number; readonly readOnlyGroup: string | null };
  readonly stateDir: string;
  /** Absolute path of a file with the 16-byte key (raw or 32 hex digits), or null: random (all zero in replay). */
  readonly affinityKeyFile: string | null;
  /** Load reports of instances; null: none are listened for. */
  readonly load: { readonly port: number; readonly keyFile: string } | null;
  /** Null: there are no mesh chains, and no state is synced. */
  readonly mesh: MeshConfig | null;
  readonly metrics: MetricsConfig | null;
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' };
}
