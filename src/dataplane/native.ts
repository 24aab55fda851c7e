/**
 * The typed edge of the native addon: everything TypeScript can ask of C++ and every shape that crosses.
 * TypeScript decides, native code moves packets; what it should do is one immutable {@link NativeProgram}.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** Instance states of DESIGN: draining keeps its streams and gets no new ones; standby gets none. */
export type InstanceState = 'up' | 'draining' | 'down' | 'standby';
export type Affinity = '5-tuple' | '3-tuple' | '2-tuple';
export type Encapsulation = 'nsh' | 'geneve';

/** One place that performs a service. Ids are stable for the life of a dataplane process (0..65534). */
export interface NativeInstance {
  readonly id: number;
  readonly service: number;
  /** IPv4 or IPv6 address in text form. */
  readonly address: string;
  /** MAC of the next hop toward it on the underlay, `aa:bb:cc:dd:ee:ff`; null while unresolved. */
  readonly mac: string | null;
  readonly state: InstanceState;
  /** 1..65535. */
  readonly weight: number;
  /** Two 32-bit seeds derived from the instance's name, for rendezvous hashing. */
  readonly seed: readonly [number, number];
}

export interface NativeService {
  readonly id: number;
  readonly affinity: Affinity;
  readonly onFailure: 'rebalance' | 'hold';
  readonly fail: 'open' | 'closed';
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
  /** Service ids, in chain order, 0..32 of them, none twice. */
  readonly services: readonly number[];
  /** Id of the path that live streams are repointed to at their next packet, or 0. */
  readonly movedTo: number;
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

/** Idle timeouts in milliseconds. */
export interface NativeIdle {
  readonly tcp: number;
  readonly other: number;
  readonly closed: number;
}

export interface NativeProgram {
  readonly generation: number;
  /** 16 bytes. */
  readonly affinityKey: Uint8Array;
  readonly defaultAction: 'pass' | 'drop';
  readonly mssClamp: boolean;
  readonly idle: NativeIdle;
  readonly underlay: {
    /** Tunnel source addresses; at least one where any chain has a service. */
    readonly ipv4: string | null;
    readonly ipv6: string | null;
    readonly mac: string;
    /** Layer-3 MTU in bytes. */
    readonly mtu: number;
  };
  /** Capture i uses ports 1+2i (`in`) and 2+2i (`out`); port 0 is the underlay. */
  readonly captures: readonly NativeCapture[];
  readonly services: readonly NativeService[];
  readonly instances: readonly NativeInstance[];
  readonly paths: readonly NativePath[];
  readonly chains: readonly NativeChain[];
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

export interface Tuple {
  readonly capture: number;
  /** VLAN ids: outer, inner; 0 where absent. */
  readonly vlan: readonly [number, number];
  readonly protocol: number;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  /** Which side the packet comes from: `out` = from the workload. */
  readonly direction: 'out' | 'in';
}

export interface NativeFlow extends Omit<Tuple, 'direction'> {
  /** Which side opened it; source and destination are the opener's view. */
  readonly opened: 'out' | 'in';
  readonly code: number;
  readonly action: 'pass' | 'drop' | 'chain';
  /** Policy id, or -1 for the default action. */
  readonly policy: number;
  /** Path id, 0 unless action is chain. */
  readonly path: number;
  /** Pinned instance ids in chain order; -1 where the hop has none. */
  readonly pins: readonly number[];
  readonly tcp: 'none' | 'opening' | 'established' | 'closing' | 'closed';
  readonly packets: number;
  readonly bytes: number;
  /** Milliseconds since its last packet. */
  readonly idleMs: number;
}

export interface FlowPage {
  readonly flows: readonly NativeFlow[];
  /** Pass this on to get the next page; -1 when done. */
  readonly next: number;
}

/** What the pipeline would do with the first packet of a stream (or does, if the stream is live). */
export interface NativeDecision {
  readonly code: number;
  readonly action: 'pass' | 'drop' | 'chain';
  readonly policy: number;
  readonly chain: number;
  readonly path: number;
  readonly hops: readonly {
    readonly service: number;
    /** The code this service's affinity makes of the stream. */
    readonly code: number;
    /** Best first; usable or not. At most 4. */
    readonly ranked: readonly number[];
    /** What a new stream would get, -1 if none. */
    readonly chosen: number;
  }[];
  readonly live: NativeFlow | null;
}

export interface PacketCount {
  readonly packets: number;
  readonly bytes: number;
}

export interface NativeCounters {
  /** All frames handed to the pipeline, by where they came from. */
  readonly captured: PacketCount;
  readonly returned: PacketCount;
  /** Frames sent: stamped to instances, finished streams' packets out of a capture, crossings unchanged. */
  readonly stamped: PacketCount;
  readonly delivered: PacketCount;
  readonly crossed: PacketCount;
  /** Frames on the underlay that are not for us. */
  readonly ignored: number;
  /** Frames not steered but crossed, by reason (non-IP, other protocol, policy, default …). */
  readonly crossedBy: Readonly<Record<string, number>>;
  /** Dropped frames by reason; every reason is present, also at 0. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly streams: { readonly active: number; readonly opened: number; readonly expired: number; readonly evicted: number; readonly capacity: number };
  /** Rows for ids that are not all zero. `streams` counts opened for policies and chains, active for paths and instances. */
  readonly policies: readonly (PacketCount & { readonly id: number; readonly streams: number })[];
  readonly chains: readonly (PacketCount & { readonly id: number; readonly streams: number })[];
  readonly paths: readonly { readonly id: number; readonly streams: number }[];
  readonly instances: readonly { readonly id: number; readonly streams: number; readonly sent: PacketCount; readonly received: PacketCount }[];
  /** Empty for an Engine (its ports are not native). Index is the port number. */
  readonly ports: readonly {
    readonly port: number;
    readonly interface: string;
    readonly rxFrames: number;
    readonly rxBytes: number;
    readonly rxDropped: number;
    readonly txFrames: number;
    readonly txBytes: number;
    readonly txErrors: number;
    /** Super-frames are cut before they reach this device, which can't or won't take them. */
    readonly cuts: boolean;
  }[];
}

export interface EmittedFrame {
  readonly port: number;
  readonly bytes: Uint8Array;
}

export interface EngineOptions {
  /** Streams the flow table holds, preallocated. */
  readonly flowsMax: number;
}

/** The pipeline on the caller's thread; for the `pcap` and `sim` ports. Errors (a bad program) are thrown as TypeError. */
export interface NativeEngine {
  install(program: NativeProgram): void;
  /**
   * Runs one Ethernet frame through. `offloadUnknown` (default false): the frame was captured without a virtio-net header, so its
   * checksums may be partial and it may be a super-frame. Returned bytes are copies.
   */
  process(timeNs: bigint, port: number, frame: Uint8Array, offloadUnknown?: boolean): EmittedFrame[];
  flows(cursor: number, max: number): FlowPage;
  describe(tuple: Tuple): NativeDecision;
  counters(): NativeCounters;
}

/** The `ring` ports and the pipeline on threads of their own. Every method returns at once; a worker serves it between batches. */
export interface NativeWorker {
  /** In force at once for what comes next; resolves when every worker has taken it up. */
  install(program: NativeProgram): Promise<void>;
  flows(cursor: number, max: number): Promise<FlowPage>;
  describe(tuple: Tuple): Promise<NativeDecision>;
  counters(): NativeCounters;
  /** Rejects if a ring failed (interface gone): the reason. Resolves after stop(). */
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

export interface NativeWorkerOptions extends EngineOptions {
  /** Threads, 1 to 8. With more than one the kernel shares the streams out among them (PACKET_FANOUT_HASH). */
  readonly workers: number;
  /** Interface names by port number: underlay (null where no chain needs one), then in/out of each capture. */
  readonly interfaces: readonly (string | null)[];
  readonly program: NativeProgram;
}

export interface ReplayOptions extends EngineOptions {
  readonly read: string;
  /** Path for the frames that go to instances, or null. */
  readonly write: string | null;
  /** Path for the frames that leave captures, or null. */
  readonly out: string | null;
  /** Prefixes of the workload side (`10.1.0.0/24`, `fd01::/64`). Empty: who opens a stream is the workload side. */
  readonly workload: readonly string[];
  readonly program: NativeProgram;
}

export interface ReplayProgress {
  readonly packets: number;
  /** Records that hold neither an Ethernet frame nor an IP packet. */
  readonly unusable: number;
  readonly bytesRead: number;
  readonly bytesTotal: number;
  readonly done: boolean;
  /** Set when the file ended in the middle of a record or is broken: what libpcap said. */
  readonly error: string | null;
}

export interface NativeReplay {
  /** Processes up to `maxPackets` more packets on the caller's thread. */
  step(maxPackets: number): ReplayProgress;
  flows(cursor: number, max: number): FlowPage;
  counters(): NativeCounters;
  /** Flushes and closes the written files; throws if they are not whole. */
  close(): void;
}

/** A packet as a service function in JavaScript sees it: the inner Ethernet frame or IP packet, and its stamp. */
export interface NodePacket {
  readonly bytes: Uint8Array;
  readonly encapsulation: Encapsulation;
  readonly code: number;
  readonly spi: number;
  readonly si: number;
}

export interface NodeCounters {
  readonly received: PacketCount;
  readonly returned: PacketCount;
  readonly dropped: Readonly<Record<string, number>>;
  readonly port: NativeCounters['ports'][number];
}

export interface NativeNodeOptions {
  readonly interface: string;
  readonly address: string;
  /** null: native `pass`. Else gets batches; returns one verdict a packet: true forward, false drop, bytes replace, no bytes an error. */
  readonly onBatch: ((packets: NodePacket[]) => readonly (boolean | Uint8Array)[]) | null;
}

export interface NativeNode {
  counters(): NodeCounters;
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

export interface InterfaceInfo {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** The link below is there: cable in, peer up. */
  readonly carrier: boolean;
  readonly loopback: boolean;
  readonly ipv4: readonly string[];
  /** Global ones first, link-local last. */
  readonly ipv6: readonly string[];
}

export interface NativeAddon {
  Engine: new (options: EngineOptions) => NativeEngine;
  Worker: new (options: NativeWorkerOptions) => NativeWorker;
  Replay: new (options: ReplayOptions) => NativeReplay;
  Node: new (options: NativeNodeOptions) => NativeNode;
  /**
   * Holds a UDP port and drops in the kernel what comes for it. Returns what lets go of it; throws an Error with the code
   * EADDRINUSE, EADDRNOTAVAIL or EIO.
   */
  holdUdpPort(address: string, port: number): () => void;
  /** Rtnetlink. Null where there is no such interface. */
  interfaceInfo(name: string): InterfaceInfo | null;
  /** Which interface and next hop the kernel would use; null where unreachable. */
  routeTo(address: string): { readonly interfaceIndex: number; readonly nextHop: string; readonly source: string | null } | null;
  /** MAC from the kernel's neighbour table; null where absent or failed. */
  neighbour(interfaceIndex: number, address: string): string | null;
  /** Who is at the other end of a connected Unix socket (SO_PEERCRED, unix(7)); null where the kernel does not say. `pid` 0: outside our PID namespace. */
  peerCredentials(descriptor: number): { readonly pid: number; readonly uid: number; readonly gid: number } | null;
  /** SipHash-2-4 over the canonical tuple (FORMATS); unsigned 32 bit. */
  affinityCode(key: Uint8Array, tenant: number, protocol: number, source: string, sourcePort: number, destination: string, destinationPort: number, affinity: Affinity): number;
}

const require = createRequire(import.meta.url);

/** `WEIR_ADDON` names another build of the addon (the sanitizer tests use it). */
function load(): NativeAddon {
  const built = fileURLToPath(new URL('../../build/Release/weir.node', import.meta.url));
  return require(process.env['WEIR_ADDON'] ?? built) as NativeAddon;
}

export const native: NativeAddon = load();
