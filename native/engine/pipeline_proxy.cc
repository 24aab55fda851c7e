// To an instance that knows nothing of stamps, and back: its frames are plain ones, and the stream is found again by addresses
// and ports.
#include <algorithm>
#include <cstring>

#include "engine/link.h"
#include "engine/pipeline.h"
#include "engine/segment.h"
#include "wire/ethernet.h"

namespace weir {
namespace {

constexpr uint8_t kIcmpRedirect = 5;

// Puts a link header before each segment and counts it.
template <typename Count>
class LinkWriter final : public SegmentReceiver {
 public:
  LinkWriter(Sink& sink, PortId port, Piece link, Count count) : sink_(sink), link_(link), count_(count), port_(port) {}

  void segment(uint8_t* header, uint32_t header_length, Piece payload) override {
    std::memcpy(header - link_.length, link_.bytes, link_.length);
    const Piece pieces[2] = {{header - link_.length, link_.length + header_length}, payload};
    count_(1u, link_.length + header_length + payload.length);
    segments_++;
    sink_.emit({port_, {}, {pieces, payload.length ? 2u : 1u}});
  }
  uint32_t segments() const { return segments_; }

 private:
  Sink& sink_;
  const Piece link_;
  Count count_;
  uint32_t segments_ = 0;
  const PortId port_;
};

// Whether it can leave whole: a super-frame by the size of its segments.
bool fits(const Packet& p, const Offload& offload, uint32_t mtu) {
  switch (offload.gso()) {
    case Offload::kGsoNone: return p.ip_length() <= mtu;
    case Offload::kGsoTcp4:
    case Offload::kGsoTcp6:
    case Offload::kGsoUdp: return p.payload - p.ip + offload.gso_size <= mtu;
    case Offload::kGsoUdpFragment: return p.transport - p.ip + offload.gso_size <= mtu;
    default: return false;  // nothing that anybody could cut
  }
}

}  // namespace

bool Pipeline::send_out(Context& c, PortId port, DatagramBatch::Visit visit, const Packet& packet, const void* stream, Piece link, uint32_t mtu, uint32_t uncut) {
  const Frame& frame = c.frame;
  auto count = [&](uint32_t packets, uint64_t bytes) {
    if (visit.instance == kNoInstance) return counters_.delivered.add(packets, bytes);
    counters_.proxied.add(packets, bytes);
    counters_.instances[visit.instance].sent.add(packets, bytes);
    counters_.hops[visit.hop].add(packets, bytes);
  };
  const bool whole = !frame.offload_unknown && fits(packet, frame.offload, mtu);
  if (whole && frame.offload.gso() == Offload::kGsoNone && !frame.offload.needs_checksum()) {
    join(c, port, visit, packet, stream, link);
    return true;
  }
  finish_join(c.sink);  // what came before leaves before
  if (whole) {
    const Piece pieces[2] = {link, {packet.bytes + packet.ip, packet.ip_length()}};
    count(1, link.length + packet.ip_length());
    c.sink.emit({port, shifted(frame.offload, packet.ip, link.length), pieces});
    return true;
  }
  LinkWriter writer(c.sink, port, link, count);
  switch (segment(packet, frame, {packet.ip, mtu, link.length, true}, c.sink, writer)) {
    case SegmentResult::ok:
      if (writer.segments() == 0) counters_.drop(DropReason::bad_transport);  // a super-frame of nothing
      else counters_.cut.add(writer.segments() - 1);
      return true;
    case SegmentResult::unsupported: counters_.drop(DropReason::unsupported_offload); return true;
    case SegmentResult::corrupt: counters_.drop(DropReason::bad_transport); return true;
    case SegmentResult::too_big:
      if (uncut > mtu) {
        leave_checksum(c.frame);
        return send_out(c, port, visit, packet, stream, link, uncut);
      }
      counters_.drop(DropReason::too_big);
  }
  return false;
}

// Frames go through a bump as through a wire, with the addresses and tags that they have; a router gets them from us.
bool Pipeline::to_proxied(Context& c, const Packet& packet, Flow* flow, const StreamTable::Stop& stop, bool answer, uint32_t limit, uint32_t uncut) {
  const Instance& to = *stop.instance;
  const Direction travel = travel_of(*flow, answer);
  const Leg& leg = to.legs[travel == Direction::out ? kWorkloadLeg : kNetworkLeg];
  const ProxyPort& port = program_->proxy_port(leg.port);
  if (to.reach == Instance::Reach::routed && flow->key.vlans && !tagged_links_.remember(flow->key.tenant(), flow->key.vlans)) {
    counters_.drop(DropReason::proxy_overflow);
    return true;
  }
  uint8_t* header = c.sink.scratch(kLongestLink + kVlanTag);
  uint32_t at = 12;
  Piece own{packet.bytes, packet.ip};
  if (to.reach == Instance::Reach::routed) {
    std::memcpy(header, leg.mac.bytes.data(), 6);
    std::memcpy(header + 6, port.mac.bytes.data(), 6);
  } else {
    if (packet.ip == 0) own = write_link(*flow, travel, packet.version, c.sink);
    std::memcpy(header, own.bytes, 12);
  }
  if (leg.vlan) {
    store16(header + at, kEtherVlan);
    store16(header + at + 2, leg.vlan);
    at += kVlanTag;
  }
  if (to.reach == Instance::Reach::routed) {
    store16(header + at, packet.version == 4 ? kEtherIpv4 : kEtherIpv6);
    at += 2;
  } else {
    std::memcpy(header + at, own.bytes + 12, own.length - 12);
    at += own.length - 12;
  }
  return send_out(c, leg.port, {to.id, stop.hop}, packet, flow, {header, at}, std::min(limit, port.mtu), std::min(uncut, port.mtu));
}

void Pipeline::prepare_proxied(Context& c, Prepared& prepared) {
  Frame& frame = c.frame;
  Packet& packet = prepared.packet;
  prepared.indexed = false;
  prepared.vlan = 0;
  packet.verdict = Packet::Verdict::malformed;
  packet.drop = DropReason::runt;
  if (frame.length < kEthernetHeader) return;
  if (program_->port_tagged(c.port) && frame.length >= kEthernetHeader + kVlanTag && is_vlan_ethertype(load16(frame.bytes + 12))) {
    prepared.vlan = load16(frame.bytes + 14) & 0xfff;
    pop_tag(frame);
  }
  parse_frame(frame, packet);
  if (packet.verdict != Packet::Verdict::steer || packet.fragment) return;
  // Most have one capture; place_of() tries the others.
  packet.tuple.tenant = program_->captures[0].tenant;
  const Origin* origin = program_->origin(c.port, prepared.vlan, frame.bytes + 6);
  if (origin && program_->instances[origin->instance].reach == Instance::Reach::routed) packet.tuple.vlan_outer = packet.tuple.vlan_inner = 0;
  prepared.index(*program_);
}

// The live stream that a packet from this instance belongs to. A bump's frame has the tags of its stream; of a router's only
// addresses and ports are known, so all tags that streams to routers have are tried.
Pipeline::Place Pipeline::place_of(Context& c, Prepared& prepared, const Instance& from) {
  Place found;
  Packet& packet = prepared.packet;
  const Tuple plain = packet.tuple, message = packet.icmp_tuple;
  Tuple chosen = plain;
  const bool routed = from.reach == Instance::Reach::routed;
  bool first = !packet.fragment;  // prepare_proxied() has indexed it for the first one tried
  auto look = [&](uint32_t tenant, uint16_t capture, uint32_t vlans) {
    packet.tuple = plain;
    packet.icmp_tuple = message;
    for (Tuple* t : {&packet.tuple, &packet.icmp_tuple}) {
      t->tenant = tenant;
      t->capture = capture;
      t->vlan_outer = uint16_t(vlans >> 12);
      t->vlan_inner = uint16_t(vlans & 0xfff);
    }
    prepared.indexed = first;
    first = false;
    Flow* flow = stream_of(c, prepared);
    if (!flow || flow->action != Action::chain) return;
    const StreamTable::Visit visit = streams_.visit(flow, from);
    if (!visit.path) return;
    if (found.flow && found.flow != flow) {
      found.refused = DropReason::proxy_ambiguous;
      return;
    }
    found.flow = flow;
    found.visit = visit;
    chosen = packet.tuple;
  };
  const uint32_t tags = routed ? 0 : uint32_t(packet.outer_tci & 0xfff) << 12 | (packet.inner_tci & 0xfff);
  for (size_t i = 0; i < program_->captures.size(); i++) look(program_->captures[i].tenant, uint16_t(i), tags);
  for (uint32_t i = 0, n = routed ? tagged_links_.size() : 0; i < n; i++) {
    const int capture = program_->capture_of_tenant(tagged_links_.tenant(i));
    if (capture >= 0) look(tagged_links_.tenant(i), uint16_t(capture), tagged_links_.vlans(i));
  }
  packet.tuple = chosen;
  return found;
}

void Pipeline::from_proxied(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  counters_.returned.add(c.frame.length);
  if (c.frame.length < kEthernetHeader) return counters_.drop(DropReason::runt);
  const Origin* origin = program_->origin(c.port, prepared.vlan, c.frame.bytes + 6);
  if (packet.verdict == Packet::Verdict::cross) return counters_.drop(DropReason::proxy_link);
  if (!origin) return counters_.drop(DropReason::proxy_unknown);
  const Instance& from = program_->instances[origin->instance];
  const uint8_t legs = origin->legs;
  // A router's segment carries what is not for us, too.
  if (from.reach == Instance::Reach::routed && std::memcmp(c.frame.bytes, program_->proxy_port(c.port).mac.bytes.data(), 6) != 0)
    return counters_.drop(DropReason::proxy_link);
  counters_.instances[from.id].received.add(c.frame.length);
  if (packet.verdict == Packet::Verdict::malformed) return counters_.drop(packet.drop);
  // A router on one leg tells the sender of a shorter way, which there is not.
  if (packet.ip_protocol == kIpIcmp && (!packet.fragment || packet.first_fragment) && packet.bytes[packet.transport] == kIcmpRedirect)
    return counters_.drop(DropReason::proxy_link);

  const Place place = place_of(c, prepared, from);
  if (!place.flow || place.refused == DropReason::proxy_ambiguous) return counters_.drop(place.refused);
  Flow* flow = place.flow;
  const Path& path = *place.visit.path;
  bool answer = is_answer(*flow, packet.tuple);
  Direction travel = travel_of(*flow, answer);
  if (turns_back(*flow)) {  // only the side tells which way
    if (legs == 3) return counters_.drop(DropReason::proxy_ambiguous);
    travel = legs >> kNetworkLeg & 1 ? Direction::out : Direction::in;
    answer = travel != flow->opened;
  } else if (!(legs >> (travel == Direction::out ? kNetworkLeg : kWorkloadLeg) & 1)) {
    return counters_.drop(DropReason::proxy_wrong_side);
  }
  if (packet.first_fragment) {  // the instance may have put the datagram together and cut it anew
    FragmentKey key;
    packet.tuple.direction = travel;
    complete_fragment(c, packet, key);
    remember_fragment(c, packet, key);
  }
  if (packet.ip_protocol == kIpTcp && (packet.tcp_flags & Tcp::kRst) && !packet.fragment) streams_.reset(flow, answer);

  const uint32_t done = path.position(place.visit.position, answer);  // its own inverse
  const StreamTable::Stop stop = streams_.next_stop(flow, streams_.table().route(flow), path, done + 1, answer);
  if (stop.kind == StreamTable::Stop::Kind::drop) return counters_.drop(stop.reason);
  replace_link(c.frame, packet, write_link(*flow, travel, packet.version, c.sink), c.sink);
  clamp(c, packet, path, path.deliver ? 65535 : program_->captures[flow->capture].mtu);  // it may be a connection that the instance opens in the sender's place
  if (stop.kind == StreamTable::Stop::Kind::instance) {
    to_instance(c, packet, flow, path, stop, answer, path.proxy_mtu);
  } else {
    send_out(c, leaving_port(*flow, answer), {kNoInstance}, packet, flow, {packet.bytes, packet.ip}, program_->captures[flow->capture].mtu);
  }
}

}  // namespace weir
