/** What native code tells: streams, decisions, counters. */

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

/** A datagram counts as one packet everywhere else, however many fragments it has. */
export interface FragmentCount {
  readonly datagramsSent: number;
  /** Fragments of these. */
  readonly sent: number;
  readonly received: number;
  /** Datagrams that became whole. */
  readonly datagramsReceived: number;
}

/**
 * Every packet that comes (captured, returned, cut from another) is in exactly one of: stamped, proxied, delivered, crossed, dropped,
 * neighbourAnswers, probesAnswered, held.
 */
export interface NativeCounters {
  /** All frames handed to the pipeline, by where they came from. */
  readonly captured: PacketCount;
  readonly returned: PacketCount;
  /** Frames sent: stamped to instances, plain to instances that know no stamp, finished streams' packets out of a capture, crossings unchanged. */
  readonly stamped: PacketCount;
  readonly proxied: PacketCount;
  readonly delivered: PacketCount;
  readonly crossed: PacketCount;
  /** Packets (as they travel, without stamps) that ended at the last instance of a chain that delivers. */
  readonly deliveredToInstances: PacketCount;
  /** ARP and neighbour discovery questions about virtual addresses that were answered. */
  readonly neighbourAnswers: number;
  /** Packets that others were cut into, the first of each not counted. */
  readonly cut: number;
  /** Health probes that came back. */
  readonly probesAnswered: number;
  /** Fragments that wait for their first one, at this moment. */
  readonly held: number;
  /** Frames on the underlay that are not for us. */
  readonly ignored: number;
  /** Of stamped packets that left in fragments, or came back so. */
  readonly fragments: FragmentCount;
  /** Frames not steered but crossed, by reason (non-IP, other protocol, policy, default …). */
  readonly crossedBy: Readonly<Record<string, number>>;
  /** Dropped frames by reason; every reason is present, also at 0. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly streams: { readonly active: number; readonly opened: number; readonly expired: number; readonly evicted: number; readonly capacity: number };
  /** Rows for ids that are not all zero. `streams` counts opened for policies and chains, active for paths and instances. */
  readonly policies: readonly (PacketCount & { readonly id: number; readonly streams: number })[];
  readonly chains: readonly (PacketCount & { readonly id: number; readonly streams: number; readonly delivered: PacketCount })[];
  readonly paths: readonly { readonly id: number; readonly streams: number }[];
  readonly instances: readonly { readonly id: number; readonly streams: number; readonly sent: PacketCount; readonly received: PacketCount; readonly delivered: PacketCount }[];
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
    /** False when its interface is gone: it receives and sends nothing until it is opened again. */
    readonly open: boolean;
  }[];
  /** What was sent to each position of each chain, 0-based in chain order; super-frames count as the datagrams they are. */
  readonly hops: readonly (PacketCount & { readonly chain: number; readonly position: number })[];
  /** The threads; empty for an Engine. */
  readonly workers: readonly NativeWorkerCounters[];
}

export interface NativeLatency {
  /** By bucket: bucket i has what took at most 2^(LATENCY_FIRST_BIT + i) ns and more than the one before; the last has no upper end. */
  readonly counts: readonly number[];
  readonly sumNs: number;
}

export const LATENCY_FIRST_BIT = 8;

export interface NativeWorkerCounters {
  /** Captured and returned; stamped, proxied, delivered and crossed. */
  readonly received: PacketCount;
  readonly sent: PacketCount;
  /** By its pipeline, for any reason; and frames that the kernel lost because the thread did not take them in time. */
  readonly dropped: number;
  readonly ringDropped: number;
  /** Rounds of its loop: some 50 a second at least, whatever the traffic. */
  readonly turns: number;
  readonly cpuNs: number;
  /** Of one group of at most 16 frames in the pipeline, sampled. */
  readonly group: NativeLatency;
  /** From when the kernel took the oldest frame of a batch until what became of the batch was handed back to the kernel. */
  readonly transit: NativeLatency;
}

/**
 * {@link NativeWorker.signals}: rows of id, live streams, packets and bytes sent to the instance, packets and bytes it sent back, ICMP
 * "unreachable" about packets that were for it, streams that were placed there, ever; when a router said last that its way carries less than
 * the program has it (microseconds), and how much (bytes), 0 if never.
 */
export const SIGNAL_COLUMNS = 10;
/** {@link NativeWorker.probes}: rows of id, probes answered in a row, lost in a row, sent, answered, answers refused (no nonce), late, milliseconds of the last one. */
export const PROBE_COLUMNS = 8;
