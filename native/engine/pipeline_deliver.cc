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

void Pipeline::deliver(Context& c, const Returned& r) {
  const PortId port = port_of(*r.flow, r.answer);
  const uint8_t gso = r.packet.version == 4 ? Offload::kGsoTcp4 : Offload::kGsoTcp6;
  if (!join_.empty() && port == join_port_ && c.sink.carries(port, gso) && join_.append(r.packet, r.flow)) return;
  finish_delivery(c.sink);
  Piece link{r.packet.bytes, r.packet.ip};
  if (!r.stamp.ethernet) link = write_link(*r.flow, travel_of(*r.flow, r.answer), r.packet.version, c.sink);
  join_.start(r.packet, r.flow, link);
  join_port_ = port;
}

void Pipeline::finish_delivery(Sink& sink) {
  if (join_.empty()) return;
  std::span<const Piece> pieces;
  const Offload offload = join_.finish(pieces);
  const OutFrame out{join_port_, offload, pieces};
  counters_.delivered.add(join_.packets(), join_.bytes());
  sink.emit(out);
  join_.clear();
}

}  // namespace weir
