/** The service node's side: stamped packets in, answered by native code, by a function's thread, or by this host's own stack. */
import type { FragmentCount, NativeCounters, PacketCount } from './native-seen.js';

export interface NodeCounters {
  readonly received: PacketCount;
  readonly returned: PacketCount;
  /** Of the returned ones: past a function that was behind or gone (`open`). */
  readonly bypassed: PacketCount;
  /** Of the returned ones: to the next instance of a mesh chain. */
  readonly handedOn: PacketCount;
  /** IP packets that left from this host past the last service of a mesh chain (`exit: direct`); not of the returned ones. */
  readonly exited: PacketCount;
  /** Packets of paths that the node's map does not have: the forwarder got them. */
  readonly unknownPath: number;
  readonly fragments: FragmentCount;
  readonly dropped: Readonly<Record<string, number>>;
  /** Null before it was in a group. */
  readonly group: GroupCounters | null;
  /** Null before it was a unit of an appliance. */
  readonly appliance: ApplianceCounters | null;
  readonly function: {
    /** A FunctionLink is open. */
    readonly attached: boolean;
    /** How long the oldest packets have been waiting for their answers. */
    readonly waitingMs: number;
  };
  readonly port: NativeCounters['ports'][number];
}

/** Of an instance in a group with a primary node. */
export interface GroupCounters {
  /** Datagrams to other members, and from them on to a forwarder. */
  readonly directed: PacketCount;
  readonly handedBack: PacketCount;
  /** Streams that it has decided as the primary. */
  readonly chosen: number;
  /** Streams whose place was needed for others. */
  readonly forgotten: number;
  /** Datagrams for which there was nobody. */
  readonly lost: number;
}

/** Of a data-plane unit. */
export interface ApplianceCounters {
  /** Packets of streams that others may have: to them. */
  readonly passedOn: PacketCount;
  /** Packets from other units that this one served. */
  readonly takenUp: PacketCount;
  /** Streams that became this unit's. */
  readonly opened: number;
  /** Of them: TCP whose first packet here opens no connection. */
  readonly openedMidstream: number;
  /** Streams whose place was needed for others. */
  readonly forgotten: number;
}

/** The service maps of an appliance, as one of its units needs them. */
export interface NativeUnitMaps {
  readonly own: NativeMeshPlace;
  /** Index of this unit; null: it is in the appliance no more. */
  readonly ownUnit: number | null;
  /** A higher one: what this unit knows of streams is over. */
  readonly epoch: number;
  /** Version of the newest map by which streams are opened. */
  readonly opened: number;
  readonly dispatchers: readonly NativeMeshPlace[];
  readonly units: readonly (NativeMeshPlace & { readonly seed: readonly [number, number] })[];
  /** Oldest first; members: [index of the unit, weight, …]. */
  readonly maps: readonly { readonly version: number; readonly members: readonly number[] }[];
}

export interface LiveStreams {
  readonly streams: number;
  /** Of them: no map has them here. */
  readonly elsewhere: number;
  /** Of the others, by the newest map that has them here: [version, streams, …]. */
  readonly byVersion: readonly number[];
}

export interface NativeGroup {
  /** This member directs new streams. */
  readonly primary: boolean;
  readonly ownId: number;
  readonly ownMac: string;
  readonly members: readonly {
    /** The same for the same member as long as the node lives, below 65535. */
    readonly id: number;
    readonly address: string;
    /** Null while it is not known: nothing is sent there. */
    readonly mac: string | null;
    readonly usable: boolean;
    readonly takesNew: boolean;
    /** 1 to 65535. */
    readonly weight: number;
    readonly seed0: number;
    readonly seed1: number;
  }[];
}

export interface NativeNodeOptions {
  readonly interface: string;
  readonly address: string;
  /** `pass`: in native code. Else packets go to a FunctionLink; those it can't take are dropped (`closed`) or passed (`open`). */
  readonly function: 'pass' | 'closed' | 'open';
}

/**
 * A node's packets for the thread that opens this: slabs of memory that native code fills. A slab holds rows of five 32-bit words
 * (offset of the packet in the slab, its length, affinity code, SPI << 8 | SI, bits: 1 geneve, 2 begins with an Ethernet header),
 * from `slabLayout.verdictsAt` on a verdict byte for each packet (0 none, 1 forward, 2 drop, 3 replace), and the packets.
 */
export interface NativeFunctionLink {
  readonly slabs: readonly ArrayBuffer[];
  /** The next slab, as slab << 16 | packets, or -1: then `wake` is called when there is one. */
  take(): number;
  /** The slab taken last has been worked on, but stays: the next one may be taken. */
  hold(): void;
  /** Gives back a slab that was taken. Replacements: [index, bytes, index, bytes, …]. */
  give(slab: number, replacements?: readonly (number | Uint8Array)[]): void;
  close(): void;
}

export interface NativeMeshPlace {
  readonly address: string;
  /** Null: not known yet. */
  readonly mac: string | null;
}

/** The service map as a node's packets need it. */
export interface NativeMeshMap {
  readonly version: number;
  readonly own: NativeMeshPlace;
  /** The service that this node performs, by number: any numbers that tell them apart. */
  readonly ownService: number;
  readonly forwarders: readonly NativeMeshPlace[];
  readonly instances: readonly (NativeMeshPlace & { readonly seed: readonly [number, number] })[];
  readonly paths: readonly {
    readonly id: number;
    /** Of a mesh chain. */
    readonly handsOn: boolean;
    readonly answersBackwards: boolean;
    /** Packets with an even SPI leave from this host, past the last service. */
    readonly exitsDirectly: boolean;
    /** In chain order; members: [index of the instance, weight, tier, …]. */
    readonly hops: readonly { readonly service: number; readonly failOpen: boolean; readonly members: readonly number[] }[];
  }[];
}

/** Where a packet goes after this instance, as a node decides it. */
export interface NativeMeshStep {
  readonly kind: 'back' | 'instance' | 'forwarder' | 'exit' | 'refused';
  /** As in the node's drop counters. */
  readonly reason: string | null;
  readonly instance: number | null;
  readonly si: number;
}

export interface NativeNode {
  /** Names the node to FunctionLink, in any thread of this process. */
  readonly handle: number;
  counters(): NodeCounters;
  /** Null: it is in no group any more. Throws a TypeError for a group that makes no sense. */
  joinGroup(group: NativeGroup | null): void;
  /** Hands packets on by this map from now on; null: returns them all. Throws a TypeError for one that makes no sense. */
  installMap(map: NativeMeshMap | null): void;
  /** Passes packets of streams that it does not know on by these maps; null: serves them all. Throws a TypeError for maps that make no sense. */
  joinAppliance(maps: NativeUnitMaps | null): void;
  /** Null: it is no unit of an appliance. Reads a table of a million places. */
  liveStreams(): LiveStreams | null;
  /** ICMP "unreachable" about what went to instances of that map: [index, count, …]. */
  unreachable(): readonly number[];
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

/** An instance that ends chains: what is in its stamped packets goes to this host's network stack through `to`. */
export interface NativeDeliverOptions {
  readonly interface: string;
  readonly address: string;
  readonly to: string;
  /** Of the Ethernet headers that the packets get; all zero on a loopback. */
  readonly fromMac: string;
  readonly toMac: string;
}

export interface NativeDeliverNode {
  counters(): { readonly received: PacketCount; readonly delivered: PacketCount; readonly probes: number; readonly fragments: FragmentCount; readonly dropped: Readonly<Record<string, number>>; readonly port: NativeCounters['ports'][number] };
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}
