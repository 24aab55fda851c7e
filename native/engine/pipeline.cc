#include "engine/pipeline.h"

#include <algorithm>

namespace weir {

void Pipeline::process(const Program& program, uint64_t now_ns, PortId port, Frame& frame, Sink& sink) {
  Context c{program, now_ns, port, frame, sink};
  if (port == kUnderlayPort) {
    from_underlay(c);
  } else {
    counters_.captured.add(frame.length);
    from_capture(c);
  }
}

bool Pipeline::complete_fragment(Context& c, Packet& packet, FragmentKey& key) {
  key.source = packet.tuple.source;
  key.destination = packet.tuple.destination;
  key.id = packet.fragment_id;
  key.tenant_protocol = packet.tuple.tenant << 8 | packet.ip_protocol;
  key.vlans = uint32_t(packet.tuple.vlan_outer) << 12 | packet.tuple.vlan_inner;
  key.direction = uint32_t(packet.tuple.direction);
  if (packet.first_fragment) return true;
  const FragmentPorts* ports = fragments_.find(key, c.now_ns);
  if (!ports) return false;
  packet.tuple.source_port = ports->source;
  packet.tuple.destination_port = ports->destination;
  return true;
}

uint32_t inner_limit(const Program& program, Encapsulation encapsulation, bool outer_ipv6, uint32_t l2) {
  const uint32_t overhead = (outer_ipv6 ? kIpv6Header : kIpv4Header) + kUdpHeader + stamp_length(encapsulation) +
                            (encapsulation == Encapsulation::nsh ? l2 : 0);
  const uint32_t mtu = std::min<uint32_t>(program.underlay_mtu, 65535);
  return mtu > overhead ? mtu - overhead : 0;
}

}  // namespace weir
