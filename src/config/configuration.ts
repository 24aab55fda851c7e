/**
 * The desired state as the rest of weir sees it: the YAML document after validation, with every default filled in,
 * durations in milliseconds and short forms written out. Snake_case keys of the document become camelCase here.
 */
import type { Affinity, Encapsulation } from '../dataplane/native.js';
import type { SwitchConfig } from './conditions.js';
import type { VariantConfig } from './variants.js';

export interface CaptureConfig {
  readonly name: string;
  readonly in: string;
  readonly out: string;
  /** Distinct among captures; given, or the lowest free number in document order. */
  readonly tenant: number;
}

export interface HealthConfig {
  readonly tcp: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly rise: number;
  readonly fall: number;
}

export interface InstanceConfig {
  readonly name: string;
  readonly address: string;
  readonly weight: number;
}

export interface ServiceConfig {
  readonly name: string;
  readonly instances: readonly InstanceConfig[];
  readonly affinity: Affinity;
  readonly onFailure: 'rebalance' | 'hold';
  readonly fail: 'open' | 'closed';
  readonly health: HealthConfig | null;
}

export interface ChainConfig {
  readonly name: string;
  readonly services: readonly string[];
  readonly return: 'hub';
  readonly encapsulation: Encapsulation;
  /** Order in which answers visit the services. */
  readonly answers: 'backwards' | 'forwards';
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

/** A document as plain JSON: what the user wrote, before defaults and short forms. Never changed in place: what is known of its parts is remembered by their identity. */
export type PlainDocument = Readonly<Record<string, unknown>>;

export interface Configuration {
  /** What this was made of; `file` is what relative paths in it are relative to. */
  readonly source: { readonly file: string; readonly document: PlainDocument };
  readonly underlay: {
    readonly interface: string;
    /** Tunnel source; null: the interface's first address. Replay never asks the machine and uses 192.0.2.1 / 2001:db8::1 then. */
    readonly address: string | null;
    /** null: the interface's MTU (1500 in replay). */
    readonly mtu: number | null;
  } | null;
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
  readonly control: { readonly socket: string; readonly mode: number };
  readonly stateDir: string;
  /** Absolute path of a file with the 16-byte key (raw or 32 hex digits), or null: random (all zero in replay). */
  readonly affinityKeyFile: string | null;
  readonly log: { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' };
}
