// From a capture to the first instance.
#include <cstring>

#include "engine/pipeline.h"
#include "engine/segment.h"
#include "wire/ethernet.h"

namespace weir {
namespace {

Direction direction_of(PortId port) { return port % 2 ? Direction::out : Direction::in; }
PortId peer_of(PortId port) { return port % 2 ? PortId(port + 1) : PortId(port - 1); }

uint8_t tpid_code(uint16_t tpid) { return tpid == 0 ? 0 : tpid == kEtherVlan ? 1 : tpid == kEtherQinq ? 2 : 3; }

// What Geneve does not carry and deliver() puts back. Written only when it changes, so that workers share the line in peace.
void remember_link(Flow* flow, const Packet& p) {
  uint32_t macs[3];
  std::memcpy(macs, p.bytes, 12);
  uint32_t* known = flow->macs[size_t(p.tuple.direction)];
  for (int i = 0; i < 3; i++)
    if (shared_load(known[i]) != macs[i]) shared_store(known[i], macs[i]);
  const uint16_t tags = LinkTags{tpid_code(p.outer_tpid), tpid_code(p.inner_tpid), uint8_t(p.outer_tci >> 12), uint8_t(p.inner_tci >> 12)}.pack();
  if (shared_load(flow->tags) != tags) shared_store(flow->tags, tags);
}

uint8_t dscp_of(const Packet& p) {
  const uint8_t* ip = p.bytes + p.ip;
  return p.version == 4 ? ip[1] >> 2 : uint8_t((load16(ip) >> 6) & 63);
}

// Puts a stamp before each segment.
class Stamper final : public SegmentReceiver {
 public:
  Stamper(Sink& sink, DatagramBatch& batch, const Tunnel& tunnel, uint16_t instance, const Stamp& stamp, uint8_t inner_version)
      : sink_(sink), batch_(batch), tunnel_(tunnel), stamp_(stamp), instance_(instance), inner_version_(inner_version) {}

  void segment(uint8_t* header, uint32_t header_length, Piece payload) override {
    const uint32_t length = stamp_length(tunnel_.encapsulation);
    write_stamp(header - length, tunnel_.encapsulation, stamp_, inner_version_);
    batch_.add(sink_, tunnel_, instance_, {header - length, length + header_length}, true, payload);
  }

 private:
  Sink& sink_;
  DatagramBatch& batch_;
  const Tunnel& tunnel_;
  const Stamp& stamp_;
  const uint16_t instance_;
  const uint8_t inner_version_;
};

}  // namespace

void Pipeline::prepare_capture(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  prepared.indexed = false;
  parse_frame(c.frame, packet);
  if (packet.verdict != Packet::Verdict::steer) return;
  const uint16_t capture = uint16_t((c.port - 1) / 2);
  auto complete = [&](Tuple& t) {
    t.capture = capture;
    t.tenant = program_->captures[capture].tenant;
    t.direction = direction_of(c.port);
    t.vlan_outer = packet.outer_tci & 0xfff;
    t.vlan_inner = packet.inner_tci & 0xfff;
  };
  complete(packet.tuple);
  if (packet.icmp_error) complete(packet.icmp_tuple);
  prepared.index(*program_);
}

void Pipeline::from_capture(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  if (packet.verdict == Packet::Verdict::cross) return cross(c, packet.cross);
  if (packet.verdict == Packet::Verdict::malformed) return counters_.drop(packet.drop);
  if (!packet.fragment) return steer(c, prepared);

  FragmentKey key;
  if (!complete_fragment(c, packet, key)) {
    if (!fragments_.hold(key, c.port, c.frame, c.now_ns)) counters_.drop(DropReason::fragment_overflow);
    return;
  }
  prepared.index(*program_);
  if (packet.first_fragment) fragments_.remember(key, {packet.tuple.source_port, packet.tuple.destination_port}, c.now_ns);
  steer(c, prepared);
  if (packet.first_fragment) release_held(c, key);
}

// Fragments that came before their first one follow it now, in the order they came.
void Pipeline::release_held(Context& c, const FragmentKey& key) {
  FragmentTable::Held held;
  while (fragments_.held()) {
    uint8_t* room = c.sink.scratch(FragmentTable::kHeldHeadroom + FragmentTable::kHeldBytes);
    if (!fragments_.take(key, held, room)) return;
    Frame frame{room + FragmentTable::kHeldHeadroom, held.length, held.length, FragmentTable::kHeldHeadroom, {}, held.offload_unknown};
    Context again{c.now_ns, held.port, frame, c.sink};
    Prepared prepared;
    prepare_capture(again, prepared);
    from_capture(again, prepared);
  }
}

void Pipeline::cross(Context& c, CrossReason reason) {
  if (c.frame.length < c.frame.wire_length) return counters_.drop(DropReason::truncated);
  counters_.crossed.add(c.frame.length);
  counters_.crossed_by[size_t(reason)]++;
  const Piece piece{c.frame.bytes, c.frame.length};
  c.sink.emit({peer_of(c.port), c.frame.offload, {&piece, 1}});
}

void Pipeline::steer(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  Flow* flow = streams_.find(prepared.key, prepared.hash);
  if (!flow && packet.icmp_error) {  // it quotes a stream that we do not know: then it is one of its own
    packet.icmp_error = false;
    packet.tuple = packet.icmp_tuple;
    prepared.index(*program_);
    flow = streams_.find(prepared.key, prepared.hash);
  }
  if (!flow || streams_.over(flow, packet, c.now_ns)) flow = streams_.open(packet.tuple, prepared.key, prepared.hash, c.now_ns, flow);
  if (!flow) return counters_.drop(DropReason::flow_table_full);
  const bool answer = packet.tuple.direction != flow->opened;
  streams_.seen(flow, packet, answer, c.now_ns);
  if (flow->policy != kNoPolicy) {
    counters_.policies[flow->policy].packets++;
    counters_.policies[flow->policy].bytes.add(packet.ip_length());
  }
  if (flow->action == Action::drop) return counters_.drop(DropReason::policy);
  if (flow->action == Action::pass) return cross(c, flow->policy == kNoPolicy ? CrossReason::default_pass : CrossReason::policy);

  const Route route = streams_.route(flow);
  const Path* path = program_->path(route.path);
  if (!path) return counters_.drop(DropReason::return_unknown_path);
  counters_.chains[path->chain].packets++;
  counters_.chains[path->chain].bytes.add(packet.ip_length());
  const StreamTable::Stop stop = streams_.next_stop(flow, route, *path, 0, answer);
  if (stop.kind == StreamTable::Stop::Kind::drop) return counters_.drop(stop.reason);
  if (stop.kind == StreamTable::Stop::Kind::end) return cross(c, CrossReason::empty_chain);

  const Instance& instance = *stop.instance;
  const std::optional<Address>& source = instance.address.is_ipv4() ? program_->underlay_ipv4 : program_->underlay_ipv6;
  if (!source) return counters_.drop(DropReason::no_underlay_address);
  remember_link(flow, packet);

  const Tunnel tunnel{&*source, &instance.address, &program_->underlay_mac, &instance.mac, flow->code, path->encapsulation, dscp_of(packet)};
  const Stamp stamp{packet.tuple.tenant, flow->key.vlans, path->spi(answer), uint8_t(kNshFirstIndex - stop.step), kNshFirstTtl, answer, flow->code};
  const uint32_t limit = inner_limit(*program_, path->encapsulation, tunnel.ipv6(), packet.ip);
  if (packet.ip_protocol == kIpTcp && (packet.tcp_flags & Tcp::kSyn) && !packet.fragment && program_->mss_clamp) {
    // Any instance of the chain may be reached over IPv6, so the clamp reckons with its longer header where there is a choice.
    const uint32_t worst = inner_limit(*program_, path->encapsulation, program_->underlay_ipv6.has_value(), packet.ip);
    const uint32_t headers = (packet.version == 4 ? kIpv4Header : kIpv6Header) + kTcpHeader;
    if (worst > headers) clamp_mss(packet, c.frame, uint16_t(worst - headers));
  }

  Stamper stamper(c.sink, batch_, tunnel, instance.id, stamp, packet.version);
  const SegmentRequest request{path->encapsulation == Encapsulation::nsh ? 0 : packet.ip, limit,
                               tunnel.outer_length() + stamp_length(path->encapsulation), true};
  switch (segment(packet, c.frame, request, c.sink, stamper)) {
    case SegmentResult::ok: return;
    case SegmentResult::unsupported: return counters_.drop(DropReason::unsupported_offload);
    case SegmentResult::corrupt: return counters_.drop(DropReason::bad_transport);
    case SegmentResult::too_big:
      counters_.drop(DropReason::too_big);
      answer_too_big(c, packet, limit);
  }
}

// "Fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443 section 3.2) back to the sender, as if from the packet's
// destination: a bump in the wire has no address of its own there. At most 100 a second, never about an ICMP error.
void Pipeline::answer_too_big(Context& c, const Packet& p, uint32_t mtu) {
  constexpr uint64_t kCostNs = 10'000'000, kBurstNs = 200'000'000;
  if (p.icmp_error || c.frame.length < c.frame.wire_length || mtu < 68) return;
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
