/** What TypeScript asks of native code: one immutable program, whole at every change. */

/** Instance states of DESIGN: draining keeps its streams and gets no new ones; standby gets none. */
export type InstanceState = 'up' | 'draining' | 'down' | 'standby';
export type Affinity = '5-tuple' | '3-tuple' | '2-tuple';
export type Encapsulation = 'nsh' | 'geneve';

/** One side of an instance that knows nothing of stamps. */
export interface NativeLeg {
  /** A port behind those of captures and underlays; anything while the attachment is not up. */
  readonly port: number;
  /** Tag that its frames carry there, 1..4094; 0 none. */
  readonly vlan: number;
  /** routed: the instance's own MAC on that side; null while unresolved, and for a bump. */
  readonly mac: string | null;
}

/** How frames get through an instance that knows nothing of stamps: as through a wire, or by routing. */
export interface NativeAttachment {
  readonly kind: 'bump' | 'routed';
  /** Both sides can be used. */
  readonly up: boolean;
  /** What comes from the workload's side goes in by the first and comes out of the second; a router may have one for both. */
  readonly workload: NativeLeg;
  readonly network: NativeLeg;
}

/** How native code probes an instance: a stamped packet with the O bit every interval. Milliseconds; the timeout is at most the interval. */
export interface NativeProbe {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly rise: number;
  readonly fall: number;
  readonly encapsulation: Encapsulation;
}

/** One place that performs a service. Ids are stable for the life of a dataplane process (0..65534). */
export interface NativeInstance {
  readonly id: number;
  readonly service: number;
  /** IPv4 or IPv6 address in text form; may be null, and is not used, where `attach` is not null. */
  readonly address: string | null;
  /** MAC of the next hop toward it on the underlay, `aa:bb:cc:dd:ee:ff`; null while unresolved. Not used with `attach`. */
  readonly mac: string | null;
  /** Number of the underlay that it is reached by; default 0. Not used with `attach`. */
  readonly underlay?: number;
  /** Layer-3 MTU of the way to it, 68 to 65535, where that may be less than its underlay's; absent or null: that one's. Not used with `attach`. */
  readonly mtu?: number | null;
  /** Null: it is reached through an underlay, by a stamp. */
  readonly attach: NativeAttachment | null;
  readonly state: InstanceState;
  /** 1..65535. */
  readonly weight: number;
  /** Two 32-bit seeds derived from the instance's name, for rendezvous hashing. */
  readonly seed: readonly [number, number];
  /** Absent or null: it is not probed. */
  readonly probe?: NativeProbe | null;
}

export interface NativeService {
  readonly id: number;
  readonly affinity: Affinity;
  readonly onFailure: 'rebalance' | 'hold';
  readonly fail: 'open' | 'closed';
  /** One instance directs new streams to the others; a stream is with the one that returns its packets. Default false. */
  readonly primary?: boolean;
}

/**
 * One immutable version of a chain. A path with id P has service path identifier 2P for the direction that opened the
 * stream and 2P+1 for the answers (RFC 7665 section 2: a reverse path has an SPI of its own). 1 <= id < 2^20.
 */
export interface NativePath {
  readonly id: number;
  readonly chain: number;
  readonly encapsulation: Encapsulation;
  /** `backwards`: answers visit the services in reverse order. */
  readonly answers: 'backwards' | 'forwards';
  /** The last service keeps what the opener sends; answers do not visit the services. */
  readonly deliver: boolean;
  /** Service ids, in chain order, 0..32 of them, none twice. */
  readonly services: readonly number[];
  /** Id of the path that live streams are repointed to at their next packet, or 0. */
  readonly movedTo: number;
  /** By position: [instance id, weight, …] of those that serve this path's streams; absent: any instance of the service. */
  readonly members?: readonly (readonly number[])[];
}

export interface NativeChain {
  readonly id: number;
  /** Path for new streams. */
  readonly path: number;
}

export interface NativeCapture {
  readonly name: string;
  /** 0..2^24-1, distinct among captures; the VNI and the tenant in the affinity code. */
  readonly tenant: number;
  /** MTU (layer 3) of the `in` and `out` interfaces, for segmentation of frames of unknown segment size. */
  readonly mtu: number;
}

/** An interface that instances without stamps are attached to. */
export interface NativeProxyPort {
  readonly mac: string;
  /** Layer-3 MTU in bytes. */
  readonly mtu: number;
}

/** Idle timeouts in milliseconds. */
export interface NativeIdle {
  readonly tcp: number;
  readonly other: number;
  readonly closed: number;
}

/** A network that instances are reached on. */
export interface NativeUnderlay {
  /** Tunnel source addresses; at least one where an instance is on it. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly mac: string;
  /** Layer-3 MTU in bytes. */
  readonly mtu: number;
  /** Stamped packets that are longer leave in fragments, and are taken in such. Default false. */
  readonly fragment?: boolean;
}

export interface NativeProgram {
  readonly generation: number;
  /** 16 bytes. */
  readonly affinityKey: Uint8Array;
  /** 16 bytes that make the nonces of probes; absent: zeros, which is for replay and simulation. */
  readonly probeKey?: Uint8Array;
  readonly defaultAction: 'pass' | 'drop';
  readonly mssClamp: boolean;
  readonly idle: NativeIdle;
  /** 1 to 16. The first uses port 0, number i of the others port 2 × captures + i. */
  readonly underlays: readonly NativeUnderlay[];
  /** Capture i uses ports 1+2i (`in`) and 2+2i (`out`). */
  readonly captures: readonly NativeCapture[];
  /** Their ports follow all others: i is port 2 × captures + underlays + i. */
  readonly proxyPorts: readonly NativeProxyPort[];
  readonly services: readonly NativeService[];
  readonly instances: readonly NativeInstance[];
  readonly paths: readonly NativePath[];
  readonly chains: readonly NativeChain[];
  /** Addresses whose ARP and neighbour discovery questions are answered with these MACs, on any capture. */
  readonly virtualAddresses: readonly { readonly address: string; readonly mac: string }[];
  /** Policies whose live streams are decided again, each with the generation of the change that wants it; none twice. */
  readonly moves: readonly { readonly policy: number; readonly generation: number }[];
  /** Rules in order of precedence (first match wins), {@link RULE_BYTES} bytes each; see src/program/rules.ts. */
  readonly rules: Uint8Array;
}

/**
 * A rule row, little-endian: 0 source address (16 bytes, IPv4 as ::ffff:a.b.c.d, masked), 16 destination address (16),
 * 32 source prefix length (u8, 0..128; an IPv4 /24 is 120; 0 is any family), 33 destination prefix length,
 * 34 protocol (u8, 255 any), 35 direction (u8: 0 both, 1 out, 2 in), 36 source port low, 38 high, 40 destination port
 * low, 42 high (u16 each; 0..65535 = any, also for protocols without ports), 44 capture index (u16, 65535 any),
 * 46 VLAN id (u16, outermost; 65535 any, 0 untagged), 48 action (u8: 0 pass, 1 drop, 2 chain), 49..51 zero,
 * 52 chain id (u32), 56 policy id (u32, < 2^20), 60 zero (u32).
 */
export const RULE_BYTES = 64;
