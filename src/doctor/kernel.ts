/** What the kernel can do of what weir uses. */
import { release } from 'node:os';
import type { KernelProbe } from '../dataplane/native.js';
import { fail, ok, warn, type Finding } from './finding.js';

type Feature = keyof KernelProbe;

/** Without these the ring port does not start. */
const NEEDED: Readonly<Partial<Record<Feature, string>>> = {
  tpacket_v2: 'receive rings of version 2 (TPACKET_V2)',
  vnet_hdr: 'offload state with each frame (PACKET_VNET_HDR)',
  ignore_outgoing: 'leaving out what weir itself sends (PACKET_IGNORE_OUTGOING, Linux 4.20)',
  socket_filter: 'socket filters (SO_ATTACH_FILTER)',
  receive_ring: 'a receive ring (PACKET_RX_RING)',
  fanout: 'several rings an interface (PACKET_FANOUT)',
};

/** Without these it works, and what that means. */
const WANTED: Readonly<Partial<Record<Feature, readonly [what: string, without: string, fix: string]>>> = {
  qdisc_bypass: ['sending past the queueing discipline (PACKET_QDISC_BYPASS)', 'every frame takes the longer way', 'a kernel of 3.14 or later'],
  udp_super_frames: ['UDP super-frames from packet sockets (VIRTIO_NET_HDR_GSO_UDP_L4)', 'TCP in bulk is cut before it is sent, at a fraction of the speed', 'a kernel of 6.2 or later'],
  udp_segment: ['UDP segmentation on sockets (UDP_SEGMENT)', 'instances on this host that use UDP sockets send single datagrams', 'a kernel of 4.18 or later'],
  udp_gro: ['UDP batches on sockets (UDP_GRO)', 'the kernel cuts each batch that comes for a held port, only to drop it', 'a kernel of 5.0 or later'],
  memfd: ['memory that outlives a process (memfd_create)', 'the flow table is not kept over a restart', 'a kernel of 3.17 or later'],
  huge_pages: ['huge pages (MADV_HUGEPAGE)', 'a large flow table costs more misses', 'echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled'],
};

export function kernel(probe: KernelProbe): Finding[] {
  const findings: Finding[] = [];
  const refused = (feature: Feature): string | null => probe[feature] ?? null;
  for (const [feature, what] of Object.entries(NEEDED) as [Feature, string][]) {
    const reason = refused(feature);
    if (reason !== null) findings.push(fail('kernel', `it refuses ${what}: ${reason}`, 'port: pcap (slower), or a kernel of 4.20 or later'));
  }
  for (const [feature, [what, without, fix]] of Object.entries(WANTED) as [Feature, readonly [string, string, string]][]) {
    const reason = refused(feature);
    if (reason !== null) findings.push(warn('kernel', `it refuses ${what}: ${reason}; ${without}`, fix));
  }
  if (probe.packet_socket !== null) findings.push(warn('kernel', `what packet sockets can do was not looked at: ${probe.packet_socket ?? 'there are none'}`, 'run weir doctor with CAP_NET_RAW'));
  else if (findings.length === 0) findings.push(ok('kernel', `Linux ${release()}: rings, fanout, super-frames and the other features that weir uses are there`));
  return findings;
}
