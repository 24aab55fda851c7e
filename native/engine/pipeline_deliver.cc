// The end of the path: a packet leaves on the side it was travelling to, with the Ethernet header and tags it had, and together
// with the TCP segments that it continues.
#include <cstring>

#include "engine/pipeline.h"
#include "wire/ethernet.h"

namespace weir {
namespace {

uint16_t tpid_of(uint32_t code) {
  constexpr uint16_t kTpids[4] = {0, kEtherVlan, kEtherQinq, kEtherQinqOld};
  return kTpids[code];
}

Direction travel_of(const Flow& flow, bool answer) {
  return !answer ? flow.opened : flow.opened == Direction::out ? Direction::in : Direction::out;
}

PortId port_of(const Flow& flow, bool answer) {
  return travel_of(flow, answer) == Direction::out ? capture_out_port(flow.capture) : capture_in_port(flow.capture);
}

// Ethernet header and tags of the stream's latest packet.
Piece write_link(const Flow& flow, Direction travel, uint8_t version, Sink& sink) {
  uint8_t* header = sink.scratch(kEthernetHeader + 2 * kVlanTag);
  uint32_t macs[3], at = 12;
  for (int i = 0; i < 3; i++) macs[i] = shared_load(flow.macs[size_t(travel)][i]);
  std::memcpy(header, macs, 12);
  const LinkTags link = LinkTags::unpack(shared_load(flow.tags));
  const uint32_t tags[2][3] = {{link.outer_tpid, link.outer_priority, flow.key.vlans >> 12}, {link.inner_tpid, link.inner_priority, flow.key.vlans & 0xfff}};
  for (const auto& tag : tags) {
    if (!tag[0]) continue;
    store16(header + at, tpid_of(tag[0]));
    store16(header + at + 2, uint16_t(tag[1] << 12 | tag[2]));
    at += kVlanTag;
  }
  store16(header + at, version == 4 ? kEtherIpv4 : kEtherIpv6);
  return {header, at + 2};
}

}  // namespace

void Pipeline::deliver(Context& c, const Returned& r, SegmentJoin& join) {
  const PortId port = port_of(*r.flow, r.answer);
  const uint8_t gso = r.packet.version == 4 ? Offload::kGsoTcp4 : Offload::kGsoTcp6;
  if (!join.empty() && c.sink.carries(port, gso) && join.append(r.packet)) return;
  finish_delivery(c, r, join);
  Piece link{r.packet.bytes, r.packet.ip};
  if (!r.stamp.ethernet) link = write_link(*r.flow, travel_of(*r.flow, r.answer), r.packet.version, c.sink);
  join.start(r.packet, link);
}

// `r`: any packet of the run that is being joined.
void Pipeline::finish_delivery(Context& c, const Returned& r, SegmentJoin& join) {
  if (join.empty()) return;
  std::span<const Piece> pieces;
  const Offload offload = join.finish(pieces);
  const OutFrame out{port_of(*r.flow, r.answer), offload, pieces};
  counters_.delivered.add(join.packets(), join.bytes());
  c.sink.emit(out);
  join.clear();
}

}  // namespace weir
