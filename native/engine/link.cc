#include "engine/link.h"

#include <cstring>

#include "wire/ethernet.h"

namespace weir {
namespace {

uint8_t tpid_code(uint16_t tpid) { return tpid == 0 ? 0 : tpid == kEtherVlan ? 1 : tpid == kEtherQinq ? 2 : 3; }

uint16_t tpid_of(uint32_t code) {
  constexpr uint16_t kTpids[4] = {0, kEtherVlan, kEtherQinq, kEtherQinqOld};
  return kTpids[code];
}

}  // namespace

void remember_link(Flow* flow, const Packet& p) {
  uint32_t macs[3];
  std::memcpy(macs, p.bytes, 12);
  uint32_t* known = flow->macs[size_t(p.tuple.direction)];
  for (int i = 0; i < 3; i++)
    if (shared_load(known[i]) != macs[i]) shared_store(known[i], macs[i]);
  const uint16_t tags = LinkTags{tpid_code(p.outer_tpid), tpid_code(p.inner_tpid), uint8_t(p.outer_tci >> 12), uint8_t(p.inner_tci >> 12)}.pack();
  const bool turned = (p.tuple.direction != flow->opened) != is_answer(*flow, p.tuple);
  const uint16_t before = shared_load(flow->tags), now = uint16_t(tags | (before & kTurnsBack) | (turned ? kTurnsBack : 0));
  if (before != now) shared_store(flow->tags, now);
}

Piece write_link(const Flow& flow, Direction travel, uint8_t version, Sink& sink) {
  uint8_t* header = sink.scratch(kLongestLink);
  uint32_t macs[3], at = 12;
  for (int i = 0; i < 3; i++) macs[i] = shared_load(flow.macs[size_t(travel)][i]);
  if (macs[0] | macs[1] | macs[2]) {
    std::memcpy(header, macs, 12);
  } else {
    for (int i = 0; i < 3; i++) macs[i] = shared_load(flow.macs[size_t(opposite(travel))][i]);
    const uint8_t* other = reinterpret_cast<const uint8_t*>(macs);
    std::memcpy(header, other + 6, 6);
    std::memcpy(header + 6, other, 6);
  }
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

Offload shifted(Offload offload, uint32_t from, uint32_t to) {
  if (offload.header_length) offload.header_length = uint16_t(offload.header_length + to - from);
  if (offload.needs_checksum()) offload.checksum_start = uint16_t(offload.checksum_start + to - from);
  return offload;
}

void pop_tag(Frame& frame) {
  std::memmove(frame.bytes + kVlanTag, frame.bytes, 12);
  frame.bytes += kVlanTag;
  frame.length -= kVlanTag;
  frame.wire_length -= kVlanTag;
  frame.headroom += kVlanTag;
  frame.offload = shifted(frame.offload, kVlanTag, 0);
}

void replace_link(Frame& frame, Packet& p, Piece link, Sink& sink) {
  const uint32_t from = p.ip, to = link.length;
  uint8_t* ip = p.bytes + from;
  uint32_t headroom = frame.headroom + from;
  if (headroom < to) {
    constexpr uint32_t kRoom = 192;  // for outer headers and stamp, too
    uint8_t* copy = sink.scratch(kRoom + frame.length - from);
    std::memcpy(copy + kRoom, ip, frame.length - from);
    ip = copy + kRoom;
    headroom = kRoom;
  }
  std::memcpy(ip - to, link.bytes, to);
  frame.headroom = headroom - to;
  frame.bytes = p.bytes = ip - to;
  frame.length = frame.length - from + to;
  frame.wire_length = frame.wire_length - from + to;
  frame.offload = shifted(frame.offload, from, to);
  p.transport = p.transport - from + to;
  p.payload = p.payload - from + to;
  p.end = p.end - from + to;
  p.ip = to;
}

}  // namespace weir
