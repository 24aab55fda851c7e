/** What native code finds out of this host, and captures of it. */

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

export interface CaptureOptions {
  readonly interface: string;
  /** Of the instances, on the underlay. */
  readonly addresses: readonly string[];
  readonly direction: 'both' | 'to' | 'from';
  /** Expressions of libpcap, on what is written and on the packet inside; empty: all. */
  readonly filter: string;
  readonly innerFilter: string;
  /** Write the packets inside instead of the stamped frames. */
  readonly inner: boolean;
  /** Leave super-frames as the kernel has them. */
  readonly whole: boolean;
  /** Path, or `-` for standard output. */
  readonly write: string;
  /** 64 to 262144 bytes. */
  readonly snaplen: number;
  /** Packets to write; 0: until stop(). */
  readonly count: number;
  /** Of the kernel's ring, 2 to 1024. */
  readonly megabytes: number;
}

/** Throws an Error that says what failed. */
export interface NativeLiveCapture {
  /** `frames` seen (super-frames as one), `packets` and their `bytes` written, `filtered` out, `unread`: no stamp to read; `dropped` by the kernel. */
  counters(): { readonly frames: number; readonly packets: number; readonly bytes: number; readonly filtered: number; readonly unread: number; readonly dropped: number };
  /** Rejects with the reason when it can't go on; resolves after stop() or `count` packets, when the file is whole. */
  readonly finished: Promise<void>;
  stop(): Promise<void>;
}

export interface InterfaceOffloads {
  readonly rxChecksum: boolean;
  readonly txChecksum: boolean;
  readonly tso: boolean;
  readonly gso: boolean;
  readonly gro: boolean;
  readonly lro: boolean;
}

/** By feature: null where it works, else the kernel's reason. Those that need a packet socket are absent where there is none. */
export type KernelProbe = Readonly<
  Partial<
    Record<
      'packet_socket' | 'tpacket_v2' | 'vnet_hdr' | 'ignore_outgoing' | 'socket_filter' | 'receive_ring' | 'fanout' | 'qdisc_bypass' | 'udp_super_frames' | 'udp_segment' | 'udp_gro' | 'memfd' | 'huge_pages',
      string | null
    >
  >
>;
