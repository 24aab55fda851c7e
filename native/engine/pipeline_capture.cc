// From a capture to the first instance.
#include <cstring>

#include "engine/link.h"
#include "engine/neighbour_answer.h"
#include "engine/pipeline.h"
#include "engine/segment.h"
#include "wire/ethernet.h"

namespace weir {
namespace {

Direction direction_of(PortId port) { return port % 2 ? Direction::out : Direction::in; }
PortId peer_of(PortId port) { return port % 2 ? PortId(port + 1) : PortId(port - 1); }

uint8_t dscp_of(const Packet& p) {
  const uint8_t* ip = p.bytes + p.ip;
  return p.version == 4 ? ip[1] >> 2 : uint8_t((load16(ip) >> 6) & 63);
}

bool may_be_fragmented(const Packet& p) { return p.version == 4 && !(Ipv4::fragment_field(p.bytes + p.ip) & Ipv4::kDontFragment); }

// Whether an error about it may be sent, in its destination's name: both ends are single hosts, and over IPv4 it begins a datagram.
bool between_hosts(const Packet& p) {
  if (p.ip >= kEthernetHeader && (p.bytes[0] & 1)) return false;
  const uint8_t* ip = p.bytes + p.ip;
  if (p.version == 6) {
    const uint8_t *source = ip + 8, *destination = ip + 24;
    static constexpr uint8_t kNone[15] = {};
    const bool none_or_loopback = std::memcmp(source, kNone, 15) == 0 && source[15] < 2;
    return source[0] != 0xff && destination[0] != 0xff && !none_or_loopback;
  }
  const uint8_t source = ip[12], destination = ip[16];
  return source != 0 && source != 127 && source < 224 && destination < 224 && (!p.fragment || p.first_fragment);
}

// A first fragment that crosses, whose later ones are told to only by that.
bool leads_fragments(const Packet& p) { return p.verdict == Packet::Verdict::cross && p.first_fragment && p.version == 6; }

// Puts a stamp before each segment.
class Stamper final : public SegmentReceiver {
 public:
  Stamper(Sink& sink, DatagramBatch& batch, const Tunnel& tunnel, DatagramBatch::Visit visit, const Stamp& stamp, uint8_t inner_version)
      : sink_(sink), batch_(batch), tunnel_(tunnel), stamp_(stamp), visit_(visit), inner_version_(inner_version) {}

  void segment(uint8_t* header, uint32_t header_length, Piece payload) override {
    const uint32_t length = stamp_length(tunnel_.encapsulation);
    write_stamp(header - length, tunnel_.encapsulation, stamp_, inner_version_);
    batch_.add(sink_, tunnel_, visit_, {header - length, length + header_length}, true, payload);
    segments_++;
    bytes_ += header_length + payload.length;
  }
  uint32_t segments() const { return segments_; }
  uint64_t bytes() const { return bytes_; }  // without stamps

 private:
  Sink& sink_;
  DatagramBatch& batch_;
  const Tunnel& tunnel_;
  const Stamp& stamp_;
  uint32_t segments_ = 0;
  uint64_t bytes_ = 0;
  const DatagramBatch::Visit visit_;
  const uint8_t inner_version_;
};

}  // namespace

void Pipeline::prepare_capture(PortId port, const Frame& frame, Prepared& prepared) {
  Packet& packet = prepared.packet;
  prepared.indexed = false;
  parse_frame(frame, packet);
  const bool steered = packet.verdict == Packet::Verdict::steer;
  if (!steered && !leads_fragments(packet)) return;
  const uint16_t capture = uint16_t((port - 1) / 2);
  auto complete = [&](Tuple& t) {
    t.capture = capture;
    t.tenant = program_->captures[capture].tenant;
    t.direction = direction_of(port);
    t.vlan_outer = packet.outer_tci & 0xfff;
    t.vlan_inner = packet.inner_tci & 0xfff;
  };
  complete(packet.tuple);
  if (!steered) return;
  if (packet.icmp_error) complete(packet.icmp_tuple);
  prepared.key = flow_key(packet.tuple);
  prepared.indexed = true;
}

void Pipeline::from_capture(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  if (packet.verdict == Packet::Verdict::cross && !leads_fragments(packet)) {
    if (!program_->virtual_addresses.empty() && answer_for_virtual(c, packet)) return;
    return cross(c, packet, packet.cross);
  }
  if (packet.verdict == Packet::Verdict::malformed) return counters_.drop(packet.drop);
  if (!packet.fragment) return steer(c, prepared);

  FragmentKey key;
  if (!complete_fragment(c, packet, key)) {
    if (!fragments_.hold(key, c.port, c.frame, c.now_ns)) counters_.drop(DropReason::fragment_overflow);
    return;
  }
  if (packet.first_fragment) remember_fragment(c, packet, key);
  if (packet.verdict == Packet::Verdict::cross) {
    cross(c, packet, packet.cross);
  } else {
    prepared.index(*program_);
    steer(c, prepared);
  }
  if (packet.first_fragment) release_held(c, key);
}

// Fragments that came before their first one follow it now, in the order they came.
void Pipeline::release_held(Context& c, const FragmentKey& key) {
  FragmentTable::Held held;
  // Where its first one has been forgotten meanwhile, a fragment is held once more: it must not be taken again for ever.
  for (uint32_t i = 0; i < FragmentTable::kHeldFrames && fragments_.held(); i++) {
    uint8_t* room = c.sink.scratch(FragmentTable::kHeldHeadroom + FragmentTable::kHeldBytes);
    if (!fragments_.take(key, held, room)) return;
    Frame frame{room + FragmentTable::kHeldHeadroom, held.length, held.length, FragmentTable::kHeldHeadroom, {}, held.offload_unknown};
    Context again{c.now_ns, held.port, frame, c.sink};
    Prepared prepared;
    prepare_capture(held.port, frame, prepared);
    from_capture(again, prepared);  // which hashes, as for any fragment
  }
}

void Pipeline::cross(Context& c, const Packet& packet, CrossReason reason) {
  if (c.frame.length < c.frame.wire_length) return counters_.drop(DropReason::truncated);
  const uint32_t mtu = program_->captures[(c.port - 1) / 2].mtu;
  if (c.frame.length > mtu && packet.verdict == Packet::Verdict::steer && packet.ip_length() > mtu && c.frame.offload.gso() == Offload::kGsoNone &&
      !c.frame.offload_unknown && !may_be_fragmented(packet)) {
    counters_.drop(DropReason::too_big);
    return answer_too_big(c, packet, mtu);
  }
  counters_.crossed.add(c.frame.length);
  counters_.crossed_by[size_t(reason)]++;
  const Piece piece{c.frame.bytes, c.frame.length};
  c.sink.emit({peer_of(c.port), c.frame.offload, {&piece, 1}});
}

bool Pipeline::answer_for_virtual(Context& c, const Packet& packet) {
  if (c.frame.length < c.frame.wire_length) return false;
  uint8_t* out = c.sink.scratch(kLongestNeighbourAnswer);
  const uint32_t length = answer_neighbour(*program_, packet, c.frame, out);
  if (length == 0) return false;
  counters_.neighbour_answers++;
  const Piece piece{out, length};
  c.sink.emit({c.port, {}, {&piece, 1}});
  return true;
}

void Pipeline::steer(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  Flow* flow = streams_.find(prepared.key, prepared.hash);
  if (packet.icmp_error && (!flow || streams_.over(flow, packet, c.now_ns))) {  // it opens no stream that it quotes: then it is one of its own
    packet.icmp_error = false;
    packet.tuple = packet.icmp_tuple;
    prepared.index(*program_);
    flow = streams_.find(prepared.key, prepared.hash);
  }
  if (!flow || streams_.over(flow, packet, c.now_ns)) flow = streams_.open(packet, prepared.key, prepared.hash, c.now_ns, flow);
  if (!flow) return counters_.drop(DropReason::flow_table_full);
  flow = streams_.up_to_date(flow, prepared.hash);
  bool answer = packet.tuple.direction != flow->opened;
  streams_.seen(flow, packet, answer, c.now_ns);
  if (flow->policy != kNoPolicy) {
    counters_.policies[flow->policy].packets++;
    counters_.policies[flow->policy].bytes.add(packet.ip_length());
  }
  if (flow->action == Action::drop) return counters_.drop(DropReason::policy);
  if (flow->action == Action::pass) return cross(c, packet, flow->policy == kNoPolicy ? CrossReason::default_pass : CrossReason::policy);

  const Route route = streams_.route(flow);
  const Path* path = program_->path(route.path);
  if (!path) return counters_.drop(DropReason::return_unknown_path);
  counters_.chains[path->chain].packets++;
  counters_.chains[path->chain].bytes.add(packet.ip_length());
  // What an instance keeps leaves by no capture.
  const uint32_t way_out = path->deliver ? 65535 : program_->captures[flow->capture].mtu;
  if (path->deliver) {
    // Both ends may be on either side of the capture: who sent it tells, or whose stream an ICMP error quotes.
    answer = packet.tuple.swapped() == flow->opener_is_a;
    if (answer) {
      clamp(c, packet, *path, way_out);
      return cross(c, packet, CrossReason::delivered_answer);
    }
  }
  const StreamTable::Stop stop = streams_.next_stop(flow, route, *path, 0, answer);
  if (stop.kind == StreamTable::Stop::Kind::drop) return counters_.drop(stop.reason);
  if (stop.kind == StreamTable::Stop::Kind::end) return cross(c, packet, CrossReason::empty_chain);

  remember_link(flow, packet);
  clamp(c, packet, *path, way_out);
  to_instance(c, packet, flow, *path, stop, answer, std::min(path->proxy_mtu, way_out));
}

// Any instance of the path may be the narrowest, or the way out.
void Pipeline::clamp(Context& c, const Packet& packet, const Path& path, uint32_t way_out) {
  if (packet.ip_protocol != kIpTcp || !(packet.tcp_flags & Tcp::kSyn) || packet.fragment || !program_->mss_clamp) return;
  const uint32_t limit = std::min(path_limit(path, packet.ip), way_out);
  const uint32_t headers = (packet.version == 4 ? kIpv4Header : kIpv6Header) + kTcpHeader;
  if (limit > headers) clamp_mss(packet, c.frame, uint16_t(std::min<uint32_t>(limit - headers, 65535)));
}

void Pipeline::to_instance(Context& c, const Packet& packet, Flow* flow, const Path& path, const StreamTable::Stop& stop, bool answer, uint32_t limit) {
  const Instance& instance = *stop.instance;
  const uint32_t most = limit;
  if (instance.proxied()) {
    const uint32_t uncut = path.fragments ? std::min(most, uncut_limit(path, packet.ip)) : 0;
    if (path.stamped) limit = std::min(limit, path_limit(path, packet.ip));
    if (!to_proxied(c, packet, flow, stop, answer, limit, uncut)) answer_too_big(c, packet, std::max(limit, uncut));
    return;
  }
  const Underlay& underlay = program_->underlay(instance);
  const std::optional<Address>& source = underlay.own(instance.address.is_ipv4());
  if (!source) return counters_.drop(DropReason::no_underlay_address);

  const Tunnel tunnel{&*source, &instance.address, &underlay.mac, &instance.mac, flow->code, path.encapsulation, dscp_of(packet), program_->underlay_port(instance.underlay)};
  const Stamp stamp{flow->key.tenant(), flow->key.vlans, path.spi(answer), uint8_t(kNshFirstIndex - stop.step), kNshFirstTtl, answer, flow->code};
  // What the first instance could take and a later one could not would be lost on its way.
  limit = std::min(limit, inner_limit(path.outer_room, path.encapsulation, packet.ip));

  Stamper stamper(c.sink, batch_, tunnel, {instance.id, stop.hop}, stamp, packet.version);
  const SegmentRequest request{path.encapsulation == Encapsulation::nsh ? 0 : packet.ip, limit,
                               tunnel.outer_length() + stamp_length(path.encapsulation), true};
  switch (segment(packet, c.frame, request, c.sink, stamper)) {
    case SegmentResult::ok:
      if (stamper.segments() == 0) return counters_.drop(DropReason::bad_transport);  // a super-frame of nothing
      counters_.cut.add(stamper.segments() - 1);
      // A datagram that was fragmented here comes back in pieces, of which only the first has ports.
      if (stamper.segments() > 1 && packet.ip_protocol != kIpTcp && !packet.fragment && !packet.icmp_error && c.frame.offload.gso() == Offload::kGsoNone) {
        Packet piece = packet;
        piece.first_fragment = true;
        piece.fragment_id = Ipv4::identification(packet.bytes + packet.ip);
        piece.tuple.direction = travel_of(*flow, answer);
        FragmentKey key;
        complete_fragment(c, piece, key);
        remember_fragment(c, piece, key);
      }
      if (stop.final) counters_.hand_over(path.chain, instance.id, stamper.segments(), stamper.bytes() - uint64_t(stamper.segments()) * (packet.ip - request.from));
      return;
    case SegmentResult::unsupported: return counters_.drop(DropReason::unsupported_offload);
    case SegmentResult::corrupt: return counters_.drop(DropReason::bad_transport);
    case SegmentResult::too_big:
      if (path.fragments) {
        const uint32_t uncut = std::min(most, uncut_limit(path, packet.ip));
        if (stamp_whole(c, packet, path, stop, tunnel, stamp, uncut)) return;
        limit = std::max(limit, uncut);
      }
      counters_.drop(DropReason::too_big);
      answer_too_big(c, packet, limit);
  }
}

// "Fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443 section 3.2) back to the sender, as if from the packet's
// destination: a bump in the wire has no address of its own there. At most 100 a second, never about an ICMP error, nor what RFC 1122
// section 3.2.2 leaves out.
void Pipeline::answer_too_big(Context& c, const Packet& p, uint32_t mtu) {
  constexpr uint64_t kCostNs = 10'000'000, kBurstNs = 200'000'000;
  if (!program_->is_capture_port(c.port)) return;  // on its way: only where it came from can it be answered
  if (p.icmp_error || c.frame.length < c.frame.wire_length || mtu < 68 || !between_hosts(p)) return;
  if (icmp_allowance_ns_ + kBurstNs < c.now_ns) icmp_allowance_ns_ = c.now_ns - kBurstNs;
  if (icmp_allowance_ns_ + kCostNs > c.now_ns) return;
  icmp_allowance_ns_ += kCostNs;

  const uint8_t* ip = p.bytes + p.ip;
  const uint32_t header = p.version == 4 ? kIpv4Header : kIpv6Header;
  // RFC 1812 quotes up to 576 bytes, RFC 4443 up to the minimum MTU of 1280.
  const uint32_t quoted = std::min<uint32_t>(p.ip_length(), (p.version == 4 ? 576 : 1280) - header - kIcmpHeader);
  const uint32_t total = header + kIcmpHeader + quoted;
  uint8_t* out = c.sink.scratch(p.ip + total);
  std::memcpy(out, p.bytes, p.ip);
  std::memcpy(out, p.bytes + 6, 6);
  std::memcpy(out + 6, p.bytes, 6);
  uint8_t* h = out + p.ip;
  uint8_t* icmp = h + header;
  std::memset(h, 0, header + kIcmpHeader);
  std::memcpy(icmp + kIcmpHeader, ip, quoted);
  if (p.version == 4) {
    h[0] = 0x45;
    store16(h + 2, uint16_t(total));
    h[8] = 64;
    h[9] = kIpIcmp;
    std::memcpy(h + 12, ip + 16, 4);
    std::memcpy(h + 16, ip + 12, 4);
    Ipv4::finish(h);
    icmp[0] = 3;
    icmp[1] = 4;
    store16(icmp + 6, uint16_t(mtu));
    checksum_store(icmp + 2, uint16_t(~checksum_fold(checksum_add(icmp, kIcmpHeader + quoted, 0))));
  } else {
    h[0] = 0x60;
    store16(h + 4, uint16_t(kIcmpHeader + quoted));
    h[6] = kIpIcmp6;
    h[7] = 64;
    std::memcpy(h + 8, ip + 24, 16);
    std::memcpy(h + 24, ip + 8, 16);
    icmp[0] = 2;
    store32(icmp + 4, mtu);
    const uint32_t length = kIcmpHeader + quoted;
    checksum_store(icmp + 2, uint16_t(~checksum_fold(checksum_add(icmp, length, checksum_pseudo(h + 8, 32, kIpIcmp6, length)))));
  }
  const Piece piece{out, p.ip + total};
  c.sink.emit({c.port, {}, {&piece, 1}});
}

}  // namespace weir
