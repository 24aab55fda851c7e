// Target: the whole pipeline. An input is a program to choose, then steps: frames into any port, time, packets that instances
// send back (unchanged, changed, from elsewhere), other programs, probes. After each step:
//   - every packet that came is out, dropped with a reason, or held;
//   - nothing that goes out is longer than its MTU allows, and what is stamped can be read again;
//   - counts of streams, pins and held fragments agree with what there is;
//   - nothing gets around the services (service_watch.h).
#include <cstring>
#include <vector>

#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "fuzz_input.h"
#include "node/stamped_datagram.h"
#include "service_watch.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

constexpr uint32_t kFlows = 8, kFragments = 8, kMostWaiting = 32;
// Where instances without stamps are attached: behind the captures' ports and those of one underlay or two.
constexpr PortId kLegs[] = {5, 6};
constexpr uint32_t kCaptureMtus[] = {1500, 1400}, kProxyMtus[] = {1500, 1450};

Address ip(uint8_t third, uint8_t last) {
  const uint8_t bytes[4] = {10, 20, third, last};
  return Address::from_ipv4(bytes);
}
Address ip6(uint8_t last) {
  uint8_t bytes[16] = {0xfd, 0x20};
  bytes[15] = last;
  return Address::from_ipv6(bytes);
}

// Bits: 0 Geneve, 1 the last instance keeps what it gets, 2 an attached bump in the middle, 3 an attached router, 4 instances over
// IPv6, 5 a narrow underlay for the first service and another one for the second, 6 one instance down, 7 a service that holds.
// `fragments`: a bit for each underlay that says `fragment: true`. `deserted`: no instance is up that has stamps.
std::shared_ptr<Program> make_program(uint8_t bits, uint8_t fragments, bool deserted) {
  auto p = std::make_shared<Program>();
  p->underlays[0].ipv4 = ip(0, 1);
  p->underlays[0].ipv6 = ip6(1);
  p->underlays[0].mac = {{2, 0, 0, 0, 0, 1}};
  if (bits & 32) {
    p->underlays[0].mtu = 1300;
    p->underlays.push_back({ip(1, 1), ip6(101), {{2, 0, 0, 0, 1, 1}}, 1500});
    p->underlays[1].fragment = fragments & 2;
  }
  p->underlays[0].fragment = fragments & 1;
  p->affinity_key[0] = 0x0706050403020100, p->affinity_key[1] = 0x0f0e0d0c0b0a0908;
  p->captures = {{"web", 0, kCaptureMtus[0]}, {"db", 7, kCaptureMtus[1]}};
  p->proxy_ports = {{{{2, 0, 0, 0, 1, 5}}, kProxyMtus[0]}, {{{2, 0, 0, 0, 1, 6}}, kProxyMtus[1]}};
  const uint16_t services = bits & 12 ? 3 : 2;
  for (uint16_t s = 0; s < services; s++) {
    Service service;
    service.id = s;
    service.affinity = Affinity(s % 3);
    service.hold_on_failure = bits & 128;
    service.fail_open = s == 0;
    p->services.push_back(service);
  }
  for (uint16_t i = 0; i < 4; i++) {
    Instance x;
    x.id = i;
    x.service = i / 2;
    x.address = bits & 16 ? ip6(uint8_t(11 + i)) : ip(0, uint8_t(11 + i));
    x.mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}};
    x.resolved = true;
    x.underlay = bits & 32 && i >= 2 ? 1 : 0;
    x.seed[0] = i;
    if (deserted || (i == 1 && bits & 64)) x.state = InstanceState::down;
    x.probe.interval_ns = 1'000'000'000;
    x.probe.timeout_ns = 500'000'000;
    x.probe.encapsulation = bits & 1 ? Encapsulation::geneve : Encapsulation::nsh;
    p->instances.push_back(x);
  }
  if (bits & 12) {
    Instance x;
    x.id = 4;
    x.service = 2;
    x.resolved = true;
    x.reach = bits & 8 ? Instance::Reach::routed : Instance::Reach::bump;
    x.legs[0] = {kLegs[bits >> 5 & 1], uint16_t(bits & 64 ? 100 : 0), {{2, 0, 0, 0, 2, 5}}};
    x.legs[1] = {PortId(kLegs[bits >> 5 & 1] + 1), uint16_t(bits & 64 ? 101 : 0), {{2, 0, 0, 0, 2, 6}}};
    p->instances.push_back(x);
  }
  Path path;
  path.id = 1;
  path.encapsulation = bits & 1 ? Encapsulation::geneve : Encapsulation::nsh;
  path.services = bits & 12 ? std::vector<uint16_t>{0, 2, 1} : std::vector<uint16_t>{0, 1};
  path.deliver = bits & 2;
  p->paths = {path};
  p->chains = {{0, 1}};
  if (bits & 2) p->virtual_addresses = {{ip(9, 9), {{2, 1, 2, 3, 4, 5}}}};
  Rule drop, pass, chain;
  drop.protocol = pass.protocol = kIpTcp;
  drop.destination_port[0] = drop.destination_port[1] = 23;
  drop.action = Action::drop;
  drop.policy = 1;
  pass.destination_port[0] = pass.destination_port[1] = 22;
  pass.policy = 2;
  chain.action = Action::chain;
  chain.policy = 3;
  p->rules = {drop};
  // Never the first to match, but enough of them that the classifier asks its index, not one after the other.
  for (uint8_t i = 0; i < 8; i++) {
    Rule more = drop;
    more.destination = ip(i, 0);
    more.destination_prefix = 120;
    p->rules.push_back(more);
  }
  p->rules.insert(p->rules.end(), {pass, chain});
  CLAIM(p->check().empty());
  return p;
}

class World final : public Sink {
 public:
  explicit World(Input& input) : input_(input), engine_({.flows = kFlows, .fragments = kFragments, .counters = {8, 4, 8, 8}}) {
    const uint8_t bits = input.u8();
    carries_ = input.u8();
    install(bits, false);
  }

  void step() {
    const uint8_t op = input_.u8();
    switch (op & 7) {
      case 0: return frame({});
      case 1: return frame(read_offload());
      case 2: return pass_time(uint64_t(input_.u16()) << (op >> 3));
      case 3: return come_back(op >> 3, false);
      case 4: return come_back(op >> 3, true);
      case 5: return op & 8 ? install(input_.u8(), op & 16) : probe();
      case 6: return again(op >> 3);
      default:
        while (!waiting_.empty() && waiting_.size() < kMostWaiting) come_back(0, false);
    }
  }

  uint8_t* scratch(uint32_t n) override {
    CLAIM(n <= kMaxScratch);
    return collector_.scratch(n);
  }
  void emit(const OutFrame& frame) override { collector_.emit(frame); }
  bool carries(PortId port, uint8_t gso) const override { return gso == Offload::kGsoUdp ? carries_ & 1 : carries_ >> (1 + port % 4) & 1; }

 private:
  struct Waiting {
    PortId port;
    bool stamped;  // the port may be another kind's in a later program
    bool fragmented;
    Offload offload;
    std::vector<uint8_t> bytes;
  };

  void install(uint8_t bits, bool deserted) {
    auto next = make_program(bits, carries_ >> 5, deserted);
    bits_ = bits;
    engine_.install(std::move(next));
  }

  Offload read_offload() {
    Offload o;
    o.flags = input_.u8() & 3;
    constexpr uint8_t kKinds[] = {0, 1, 3, 4, 5, 0x81, 0x84, 2};
    o.gso_type = kKinds[input_.u8() & 7];
    o.header_length = input_.u8();
    o.gso_size = input_.u16();
    o.checksum_start = input_.u8();
    o.checksum_offset = input_.u8() & 31;
    return o;
  }

  void frame(const Offload& offload) {
    const uint8_t where = input_.u8();
    const uint16_t length = input_.u16();
    std::vector<uint8_t> bytes;
    const auto given = input_.bytes(length & 0x7ff);
    bytes.assign(given.begin(), given.end());
    // Long frames without long inputs.
    if (length & 0x8000) bytes.resize(bytes.size() + (length >> 11 & 15) * 700, uint8_t(length));
    if (where & 0x40) mend(bytes);
    run(PortId(where % engine_.program().port_count()), bytes, offload, where & 0x20 ? 64 : 0, where & 0x10, where & 0x80);
  }

  // Lengths in the IP header as they have to be, so that more than the first checks is reached.
  static void mend(std::vector<uint8_t>& bytes) {
    if (bytes.size() < 34) return;
    uint32_t at = 12;
    while (at < 20 && at + 4 <= bytes.size() && is_vlan_ethertype(load16(&bytes[at]))) at += kVlanTag;
    uint8_t* ip = &bytes[at + 2];
    const size_t room = bytes.size() - at - 2;
    if (room > 65535) return;
    if (load16(&bytes[at]) == kEtherIpv4 && room >= kIpv4Header && ip[0] == 0x45) {
      store16(ip + 2, uint16_t(room));
      if (ip[9] == kIpUdp && room >= 28 && !(load16(ip + 6) & 0x3fff)) store16(ip + 24, uint16_t(room - 20));
      Ipv4::finish(ip);
    } else if (load16(&bytes[at]) == kEtherIpv6 && room >= kIpv6Header) {
      store16(ip + 4, uint16_t(room - kIpv6Header));
    }
  }

  void pass_time(uint64_t ns) {
    now_ += ns;
    engine_.tick(now_);
    check_state();
  }

  void probe() {
    engine_.probe(now_, *this);
    take(true, 0);
  }

  // What an instance does with the n-th frame that waits there: gives it back, or something made of it.
  void come_back(uint32_t n, bool changed) {
    if (waiting_.empty()) return;
    n %= uint32_t(waiting_.size());
    Waiting frame = std::move(waiting_[n]);
    waiting_.erase(waiting_.begin() + n);
    PortId port = frame.port;
    const PortId leg = kLegs[bits_ >> 5 & 1];
    if (frame.stamped) {
      Frame f{frame.bytes.data(), uint32_t(frame.bytes.size()), uint32_t(frame.bytes.size()), 0, frame.offload, false};
      uint32_t datagrams;
      const StampedFrame outer = read_outer(f);
      CLAIM(outer.result == StampedFrame::Result::ok);
      const bool turned = turn_round(f, outer, datagrams) == NodeDrop::count_;
      CLAIM(turned || is_probe_frame(f, outer));
    } else {
      port = PortId(port == leg ? leg + 1 : leg);
      if (bits_ & 8) turn_router(frame.bytes, uint8_t(port == leg ? 5 : 6));
      if (bits_ & 64 && frame.bytes.size() > 16) store16(&frame.bytes[14], port == leg ? 100 : 101);
    }
    if (changed) {
      for (uint8_t edits = input_.u8() & 7; edits; edits--) {
        const uint16_t at = input_.u16();
        const uint8_t value = input_.u8();
        if (frame.bytes.empty()) break;
        if (at & 0x8000) {
          frame.bytes.resize(at & 0x7ff, value);
        } else {
          frame.bytes[at % frame.bytes.size()] = value;
        }
      }
    }
    last_ = {port, frame.stamped, frame.fragmented, frame.offload, frame.bytes};
    if (!frame.fragmented || !in_fragments(port, frame.bytes)) run(port, frame.bytes, frame.offload, 0, false, false);
  }

  // In fragments, whose order, damage, loss and repetition the input says.
  bool in_fragments(PortId port, const std::vector<uint8_t>& bytes) {
    constexpr uint32_t kMtus[] = {1500, 1300, 576, 100};
    const uint8_t how = input_.u8();
    const Piece piece{bytes.data(), uint32_t(bytes.size())};
    FrameCollector cut;
    const uint32_t n = cut_outer({port, {}, {&piece, 1}}, kMtus[how & 3], how >> 6, cut);
    for (uint32_t i = 0; i < n; i++) {
      std::vector<uint8_t> fragment = cut.frames()[(i + (how >> 2 & 7)) % n].bytes;
      const uint8_t fate = how & 32 ? input_.u8() : 1;
      if (fate & 2) fragment[input_.u8() % fragment.size()] = input_.u8();
      if (fate & 4) pass_time(uint64_t(input_.u8()) << 23);
      for (uint32_t times = fate & 8 ? 2 : fate & 1; times; times--) run(port, fragment, {}, 0, false, false);
    }
    return n > 0;
  }

  void turn_router(std::vector<uint8_t>& bytes, uint8_t number) {
    if (bytes.size() < 12) return;
    const uint8_t to[6] = {2, 0, 0, 0, 1, number}, from[6] = {2, 0, 0, 0, 2, number};
    std::memcpy(bytes.data(), to, 6);
    std::memcpy(bytes.data() + 6, from, 6);
  }

  // The same once more: a replay, or by another port.
  void again(uint8_t port) { run(port & 16 ? PortId(port & 7) : last_.port, last_.bytes, last_.offload, 0, false, false); }

  void run(PortId port, const std::vector<uint8_t>& bytes, const Offload& offload, uint32_t headroom, bool unknown, bool truncated) {
    if (port >= engine_.program().port_count()) return;
    ExactFrame copy(bytes, headroom, truncated ? 1 : 0);
    copy.frame.offload = unknown ? Offload{} : offload;
    copy.frame.offload_unknown = unknown;
    const uint64_t crossed = engine_.counters().crossed.packets.get();
    watch_.comes(now_, port, copy.frame);
    engine_.process(now_, port, copy.frame, *this);
    const bool crosses = engine_.counters().crossed.packets.get() > crossed;
    take(!crosses, uint32_t(bytes.size()));
    watch_.done();
  }

  void take(bool limited, uint32_t came) {
    for (CollectedFrame& out : collector_.frames()) {
      CLAIM(out.port < engine_.program().port_count());
      const uint32_t length = uint32_t(out.bytes.size());
      // What crosses is as long as it was; what leaves fits where it goes.
      if (limited || length > came) check_length(out);
      const bool stamped = engine_.program().is_underlay_port(out.port), instance = stamped || engine_.program().is_proxy_port(out.port);
      bool fragmented = false;
      const Frame frame{out.bytes.data(), length, length, 0, {}, false};
      if (const OuterFragment f = stamped ? read_outer_fragment(frame) : OuterFragment{}; f.kind == OuterFragment::Kind::fragment) {
        FrameCollector whole;
        const auto result = at_instances_.add(f, frame, now_, whole);
        CLAIM(result.outcome == (f.more ? OuterReassembly::Outcome::kept : OuterReassembly::Outcome::whole));
        if (f.more) continue;
        out.bytes.assign(result.frame.bytes, result.frame.bytes + result.frame.length);
        const StampedFrame outer = read_outer(result.frame);
        CLAIM(outer.result == StampedFrame::Result::ok);
        CLAIM(outer_checksum_ok(result.frame, outer));
        fragmented = true;
      }
      watch_.leaves(out);
      if (instance && waiting_.size() < kMostWaiting) waiting_.push_back({out.port, stamped, fragmented, out.offload, std::move(out.bytes)});
    }
    CLAIM(at_instances_.waiting() == 0);
    collector_.clear();
    check_state();
  }

  void check_length(const CollectedFrame& out) {
    const uint32_t length = uint32_t(out.bytes.size());
    CLAIM(length >= kEthernetHeader);
    const Program& p = engine_.program();
    Frame frame{const_cast<uint8_t*>(out.bytes.data()), length, length, 0, out.offload, false};
    if (p.is_underlay_port(out.port) && p.underlays[p.underlay_of(out.port)].fragment && read_outer_fragment(frame).kind == OuterFragment::Kind::fragment) {
      CLAIM(length <= kEthernetHeader + p.underlays[p.underlay_of(out.port)].mtu);
      return;
    }
    if (p.is_underlay_port(out.port)) {
      const StampedFrame outer = read_outer(frame);
      CLAIM(outer.result == StampedFrame::Result::ok);
      CLAIM(outer.payload_end == length);
      const uint32_t size = out.offload.gso() == Offload::kGsoUdp ? out.offload.gso_size : outer.payload_end - outer.payload;
      CLAIM(outer.payload - kEthernetHeader + size <= p.underlays[p.underlay_of(out.port)].mtu);
      CLAIM(out.offload.gso() == Offload::kGsoUdp || outer_checksum_ok(frame, outer));
      DatagramView view;
      CLAIM(read_datagram(frame.bytes + outer.payload, std::min(size, outer.payload_end - outer.payload), outer.encapsulation, view));
      return;
    }
    const uint32_t mtu = p.is_proxy_port(out.port) ? p.proxy_port(out.port).mtu : p.captures[(out.port - 1) / 2].mtu;
    const Packet packet = parse_frame(frame);
    if (packet.verdict != Packet::Verdict::steer) return;
    const uint8_t gso = out.offload.gso();
    if (gso == Offload::kGsoNone) {
      CLAIM(packet.ip_length() <= mtu);
    } else {
      const uint32_t headers = (gso == Offload::kGsoUdpFragment ? packet.transport : packet.payload) - packet.ip;
      CLAIM(headers + out.offload.gso_size <= mtu);
    }
  }

  void check_state() {
    const Counters& c = engine_.counters();
    const uint32_t held = engine_.state().fragments.held();
    CLAIM(c.came() == c.went() + held);
    CLAIM(held <= FragmentTable::kHeldFrames);
    CLAIM(engine_.state().reassembly.waiting() <= OuterReassembly::kSets * OuterReassembly::kWays);
    CLAIM(engine_.flows().size() <= kFlows);
    CLAIM(c.streams_active.get() == engine_.flows().size());
    uint64_t pinned = 0;
    for (uint32_t id = 0; id < 5; id++) pinned += c.instances[id].streams.get();
    CLAIM(pinned <= 3 * engine_.flows().size());
    CLAIM(c.path_streams[1].get() <= engine_.flows().size());
  }

  Input& input_;
  Engine engine_;
  ServiceWatch watch_{engine_};
  FrameCollector collector_;
  OuterReassembly at_instances_;
  std::vector<Waiting> waiting_;
  Waiting last_{0, false, false, {}, {}};
  uint64_t now_ = 1'000'000'000;
  uint8_t bits_ = 0, carries_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  World world(input);
  for (uint32_t steps = 0; steps < 200 && !input.empty(); steps++) world.step();
  return 0;
}
