#include "engine/pipeline.h"

#include <algorithm>

#include "engine/affinity_group.h"

namespace weir {

void Pipeline::process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink) {
  const bool underlay = program_->is_underlay_port(port), proxied = program_->is_proxy_port(port);
  for (size_t i = 0; i < frames.size(); i++) {
    if (underlay) {
      prepare_return(frames[i], prepared_[i]);
    } else if (proxied) {
      Context c{now_ns, port, frames[i], sink};
      prepare_proxied(c, prepared_[i]);
    } else {
      prepare_capture(port, frames[i], prepared_[i]);
    }
  }
  fetch_streams({prepared_.data(), frames.size()}, underlay || proxied);
  for (size_t i = 0; i < frames.size(); i++) {
    Context c{now_ns, port, frames[i], sink};
    if (underlay) {
      from_underlay(c, prepared_[i]);
    } else if (proxied) {
      from_proxied(c, prepared_[i]);
    } else {
      counters_.captured.add(frames[i].length);
      from_capture(c, prepared_[i]);
    }
  }
  batch_.finish(sink);
  finish_join(sink);
}

void Pipeline::look_ahead(std::span<Frame> frames, std::span<const PortId> ports) {
  for (size_t i = 0; i < frames.size(); i++) prepare_capture(ports[i], frames[i], ahead_[i]);
  fetch_streams({ahead_.data(), frames.size()}, false);
}

void Pipeline::process_ahead(uint64_t now_ns, PortId port, uint32_t number, Frame& frame, Sink& sink) {
  Context c{now_ns, port, frame, sink};
  counters_.captured.add(frame.length);
  from_capture(c, ahead_[number]);
  batch_.finish(sink);
  finish_join(sink);
}

void Pipeline::fetch_streams(std::span<Prepared> group, bool hashed) {
  const FlowTable& table = streams_.table();
  if (!hashed) {
    const FlowKey* keys[kHashLanes];
    Prepared* of[kHashLanes];
    uint64_t hashes[kHashLanes];
    uint32_t n = 0;
    auto hash = [&] {
      affinity_hashes(program_->affinity_key, keys, n, hashes);
      for (uint32_t i = 0; i < n; i++) of[i]->hash = hashes[i];
      n = 0;
    };
    for (Prepared& p : group) {
      if (!p.indexed) continue;
      keys[n] = &p.key;
      of[n++] = &p;
      if (n == kHashLanes) hash();
    }
    if (n) hash();
  }
  if (group.size() < 2) return;  // it would be waited for at once
  for (const Prepared& p : group)
    if (p.indexed) table.prefetch_slot(p.hash);
  for (const Prepared& p : group)
    if (p.indexed) table.prefetch_entry(p.hash);
}

bool Pipeline::complete_fragment(Context& c, Packet& packet, FragmentKey& key) {
  key.source = packet.tuple.source;
  key.destination = packet.tuple.destination;
  key.id = packet.fragment_id;
  key.tenant_protocol = packet.tuple.tenant << 8 | (packet.version == 4 ? packet.ip_protocol : 0);
  key.vlans = uint32_t(packet.tuple.vlan_outer) << 12 | packet.tuple.vlan_inner;
  key.direction = uint32_t(packet.tuple.direction);
  if (packet.first_fragment) return true;
  FragmentPorts ports;
  if (!fragments_.find(key, c.now_ns, ports)) return false;
  packet.tuple.source_port = ports.source;
  packet.tuple.destination_port = ports.destination;
  packet.tuple.protocol = packet.ip_protocol = ports.protocol;
  if (ports.crosses) {
    packet.verdict = Packet::Verdict::cross;
    packet.cross = CrossReason::other_protocol;
  }
  return true;
}

void Pipeline::remember_fragment(Context& c, const Packet& packet, const FragmentKey& key) {
  const bool crosses = packet.verdict == Packet::Verdict::cross;
  // Over IPv6 an identification does not come again so soon: a second first fragment is a copy, or shall lead the later ones another
  // way. Over IPv4 sixteen bits are used up in less than a minute.
  fragments_.remember(key, {packet.tuple.source_port, packet.tuple.destination_port, packet.ip_protocol, crosses}, c.now_ns, packet.version == 6);
}

uint32_t inner_limit(uint32_t outer_room, Encapsulation encapsulation, uint32_t l2) {
  const uint32_t overhead = kUdpHeader + stamp_length(encapsulation) + (encapsulation == Encapsulation::nsh ? l2 : 0);
  return outer_room > overhead ? outer_room - overhead : 0;
}

uint32_t path_limit(const Path& path, uint32_t l2) {
  const uint32_t stamped = path.stamped ? inner_limit(path.least_outer_room, path.encapsulation, l2) : 65535;
  return std::min(stamped, path.proxy_mtu);
}

}  // namespace weir
