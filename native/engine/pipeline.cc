#include "engine/pipeline.h"

#include <algorithm>

namespace weir {

void Pipeline::process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink) {
  const bool underlay = port == kUnderlayPort;
  for (size_t i = 0; i < frames.size(); i++) {
    Context c{now_ns, port, frames[i], sink};
    if (underlay) {
      prepare_return(c, prepared_[i]);
    } else {
      prepare_capture(c, prepared_[i]);
    }
    if (prepared_[i].indexed) streams_.table().prefetch_slot(prepared_[i].hash);
  }
  if (frames.size() > 1)
    for (size_t i = 0; i < frames.size(); i++)
      if (prepared_[i].indexed) streams_.table().prefetch_entry(prepared_[i].hash);
  for (size_t i = 0; i < frames.size(); i++) {
    Context c{now_ns, port, frames[i], sink};
    if (underlay) {
      from_underlay(c, prepared_[i]);
    } else {
      counters_.captured.add(frames[i].length);
      from_capture(c, prepared_[i]);
    }
  }
  batch_.finish(sink);
  finish_delivery(sink);
}

bool Pipeline::complete_fragment(Context& c, Packet& packet, FragmentKey& key) {
  key.source = packet.tuple.source;
  key.destination = packet.tuple.destination;
  key.id = packet.fragment_id;
  key.tenant_protocol = packet.tuple.tenant << 8 | packet.ip_protocol;
  key.vlans = uint32_t(packet.tuple.vlan_outer) << 12 | packet.tuple.vlan_inner;
  key.direction = uint32_t(packet.tuple.direction);
  if (packet.first_fragment) return true;
  FragmentPorts ports;
  if (!fragments_.find(key, c.now_ns, ports)) return false;
  packet.tuple.source_port = ports.source;
  packet.tuple.destination_port = ports.destination;
  return true;
}

uint32_t inner_limit(const Program& program, Encapsulation encapsulation, bool outer_ipv6, uint32_t l2) {
  const uint32_t overhead = (outer_ipv6 ? kIpv6Header : kIpv4Header) + kUdpHeader + stamp_length(encapsulation) +
                            (encapsulation == Encapsulation::nsh ? l2 : 0);
  const uint32_t mtu = std::min<uint32_t>(program.underlay_mtu, 65535);
  return mtu > overhead ? mtu - overhead : 0;
}

}  // namespace weir
