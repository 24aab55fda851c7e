// Target: the loader of programs. Whatever Program::check() takes can be put in force, asked, and have packets run through it;
// its classifier agrees with asking one rule after the other.
#include <string>

#include "engine/classifier.h"
#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "engine/rule_row.h"
#include "fuzz_input.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

// Small numbers mostly, so that rows name one another; now and then any.
uint32_t id(Input& in) {
  const uint8_t b = in.u8();
  return b < 240 ? b & 7 : in.u32();
}

Address address(Input& in) {
  const uint8_t bytes[4] = {10, uint8_t(in.u8() & 1), 0, uint8_t(in.u8() & 3)};
  return Address::from_ipv4(bytes);
}

Leg leg(Input& in) {
  Leg l;
  l.port = PortId(id(in));
  l.vlan = uint16_t(in.u8() & 1 ? in.u16() : 0);
  l.mac.bytes[5] = in.u8() & 3;
  return l;
}

std::shared_ptr<Program> read(Input& in) {
  auto program = std::make_shared<Program>();
  Program& p = *program;
  p.underlays[0].ipv4 = address(in);
  const uint8_t flags = in.u8();
  p.default_action = flags & 1 ? Action::drop : Action::pass;
  p.mss_clamp = flags & 2;
  p.underlays[0].mtu = flags & 4 ? in.u16() : 1500;
  if (flags & 8) p.underlays.push_back({p.underlays[0].ipv4, {}, {}, 1400});
  auto rows = [&](auto&& take) {
    for (uint32_t n = in.u8() & 7; n; n--) take();
  };
  rows([&] { p.captures.push_back({"c", id(in), 1500}); });
  rows([&] { p.proxy_ports.push_back({{}, 1400}); });
  rows([&] {
    Service s;
    s.id = uint16_t(id(in));
    const uint8_t f = in.u8();
    s.affinity = Affinity(f % 3);
    s.hold_on_failure = f & 4;
    s.fail_open = f & 8;
    p.services.push_back(s);
  });
  rows([&] {
    Instance x;
    x.id = uint16_t(id(in));
    x.service = uint16_t(id(in));
    x.address = address(in);
    const uint8_t f = in.u8();
    x.resolved = f & 1;
    x.state = InstanceState(f >> 1 & 3);
    x.reach = Instance::Reach((f >> 3) % 3);
    x.weight = in.u8();
    x.underlay = flags & 16 ? x.weight & 1 : 0;
    x.seed[0] = in.u8();
    if (f & 0x80) x.probe.interval_ns = 1 + in.u16();
    for (Leg& l : x.legs) l = leg(in);
    p.instances.push_back(x);
  });
  rows([&] {
    Path x;
    x.id = id(in);
    x.chain = id(in);
    const uint8_t f = in.u8();
    x.encapsulation = f & 1 ? Encapsulation::geneve : Encapsulation::nsh;
    x.answers_backwards = f & 2;
    x.deliver = f & 4;
    x.moved_to = f & 8 ? id(in) : 0;
    for (uint32_t n = f & 0x80 ? in.u8() & 63 : f >> 4 & 7; n; n--) x.services.push_back(uint16_t(id(in)));
    p.paths.push_back(std::move(x));
  });
  rows([&] { p.chains.push_back({id(in), id(in)}); });
  rows([&] { p.virtual_addresses.push_back({address(in), {}}); });
  rows([&] { p.moves.push_back({id(in), in.u8()}); });
  while (in.left() >= kRuleBytes && p.rules.size() < 64) p.rules.push_back(read_rule(in.bytes(kRuleBytes).data()));
  return program;
}

Tuple tuple(const Program& p, uint32_t n) {
  Tuple t;
  const Rule* rule = p.rules.empty() ? nullptr : &p.rules[n % p.rules.size()];
  const uint8_t source[4] = {10, 0, 0, uint8_t(n)}, destination[4] = {10, 1, 0, 1};
  t.source = rule && (n & 1) ? rule->source : Address::from_ipv4(source);
  t.destination = rule && (n & 2) ? rule->destination : Address::from_ipv4(destination);
  t.source_port = rule ? rule->source_port[n >> 2 & 1] : 1000;
  t.destination_port = rule ? rule->destination_port[n >> 1 & 1] : 80;
  t.protocol = rule && rule->protocol != 255 ? rule->protocol : n & 4 ? kIpTcp : kIpUdp;
  t.direction = n & 1 ? Direction::in : Direction::out;
  t.capture = p.captures.empty() ? uint16_t(0) : uint16_t(n % p.captures.size());
  t.tenant = p.captures.empty() ? 0 : p.captures[t.capture].tenant;
  t.vlan_outer = rule && (n & 8) ? rule->vlan & 0xfff : 0;
  return t;
}

// UDP from 10.1.0.2 to 8.8.8.8.
constexpr uint8_t kFrame[] = {2, 0, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0, 0xaa, 8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0x60, 0xba, 10, 1, 0, 2, 8, 8, 8, 8,
                              0xcf, 0x84, 0x27, 0x0f, 0, 12, 0x0e, 0x58, 'w', 'e', 'i', 'r'};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  auto program = read(input);
  if (!program->check().empty()) return 0;
  CLAIM(program->check().empty());  // also of one that has been checked before
  for (uint32_t n = 0; n < 32; n++) {
    const Tuple t = tuple(*program, n);
    const Classification a = classify(*program, t), b = classify_in_turn(*program, t);
    CLAIM(a.action == b.action && a.policy == b.policy && a.chain == b.chain);
  }
  Engine engine({.flows = 16, .fragments = 8, .counters = {8, 8, 8, 8}});
  engine.install(program);
  FrameCollector sink;
  for (uint32_t round = 0; round < 2; round++) {
    for (PortId port = 0; port < std::min(program->port_count(), 12u); port++) {
      ExactFrame copy(kFrame, 0);
      engine.process(1 + round, port, copy.frame, sink);
      for (const CollectedFrame& out : sink.frames()) CLAIM(out.port < program->port_count());
      sink.clear();
    }
    engine.describe(tuple(*program, round));
    engine.probe(round * 1000, sink);
    sink.clear();
    auto next = std::make_shared<Program>(*program);
    CLAIM(next->check().empty());
    engine.install(next);
  }
  const Counters& c = engine.counters();
  CLAIM(c.came() == c.went() + engine.state().fragments.held());
  engine.tick(1'000'000'000'000);
  return 0;
}
