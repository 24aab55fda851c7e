// The classifier's index against asking one rule after the other.
#include "engine/classifier.h"

#include <doctest/doctest.h>

#include <random>

#include "frames.h"
#include "wire/ip.h"

using namespace weir;

namespace {

constexpr uint32_t kSeed = 1;

// Rules and tuples from a small world, so that they meet often and at the edges.
class World {
 public:
  explicit World(uint32_t seed) : random_(seed) {}

  uint32_t below(uint32_t n) { return uint32_t(random_() % n); }
  bool one_in(uint32_t n) { return below(n) == 0; }

  // How a rule set looks: which conditions its rules have, and how much they overlap.
  struct Kind {
    uint32_t addresses = 2, ports = 2, others = 3;  // one rule in so many has no such condition; 0: none has one
    uint32_t networks = 4;
    bool nested = false;  // prefixes of the same few addresses
  };
  Kind kind() { return {below(5), below(4), below(5), 1 + below(8), one_in(4)}; }

  Program program(uint32_t rules, const Kind& kind) {
    Program p;
    p.default_action = one_in(2) ? Action::pass : Action::drop;
    for (uint32_t i = 0; i < rules; i++) p.rules.push_back(rule(kind, i));
    REQUIRE(p.check() == "");
    return p;
  }

  Tuple near(const Rule& r) {
    Tuple t;
    t.source = address_near(r.source, r.source_prefix);
    t.destination = address_near(r.destination, r.destination_prefix);
    t.source_port = port_near(r.source_port);
    t.destination_port = port_near(r.destination_port);
    t.protocol = r.protocol != 255 && !one_in(8) ? r.protocol : protocol();
    if (one_in(40)) t.protocol = uint8_t(below(256));
    t.direction = (r.direction == 0 ? one_in(2) : r.direction == 2) != one_in(20) ? Direction::in : Direction::out;
    t.capture = r.capture != 65535 && !one_in(10) ? r.capture : one_in(20) ? uint16_t(65535) : uint16_t(below(4));
    t.vlan_outer = r.vlan != 65535 && !one_in(10) ? r.vlan : uint16_t(below(3) * 100);
    return t;
  }

 private:
  uint8_t protocol() { return std::array<uint8_t, 5>{kIpTcp, kIpTcp, kIpUdp, kIpIcmp, 132}[below(5)]; }

  Address address(uint32_t networks) {
    Address a;
    if (one_in(30)) a.bytes.fill(one_in(2) ? 0xff : 0);
    else if (one_in(3)) for (auto& byte : a.bytes) byte = uint8_t(below(2) * 0x80 + below(networks));
    else a = Address::from_ipv4(std::array<uint8_t, 4>{10, uint8_t(below(networks)), uint8_t(below(networks)), uint8_t(below(256))}.data());
    return a;
  }

  void prefix(const Kind& kind, Address& a, uint8_t& length) {
    if (kind.addresses == 0 || one_in(kind.addresses + 1)) return;
    if (kind.nested) {
      a = Address::from_ipv4(std::array<uint8_t, 4>{10, 1, 2, uint8_t(below(2))}.data());
      length = uint8_t(below(129));
    } else {
      a = address(kind.networks);
      length = uint8_t(a.is_ipv4() && !one_in(20) ? 96 + below(33) : below(129));
    }
    for (uint32_t bit = length; bit < 128; bit++) a.bytes[bit / 8] &= uint8_t(~(0x80 >> bit % 8));
  }

  void range(const Kind& kind, uint16_t* ports) {
    if (kind.ports == 0 || one_in(kind.ports + 1)) return;
    const uint16_t low = one_in(4) ? uint16_t(below(65536)) : uint16_t(below(20) * 10);
    ports[0] = low;
    ports[1] = one_in(2) ? low : uint16_t(std::min(65535u, low + below(one_in(2) ? 30 : 65536)));
    if (one_in(10)) ports[0] = 0;
    if (one_in(10)) ports[1] = 65535;
    if (one_in(100)) std::swap(ports[0], ports[1]);  // takes no packet
  }

  Rule rule(const Kind& kind, uint32_t number) {
    Rule r;
    prefix(kind, r.source, r.source_prefix);
    prefix(kind, r.destination, r.destination_prefix);
    range(kind, r.source_port);
    range(kind, r.destination_port);
    const auto given = [&] { return kind.others != 0 && !one_in(kind.others); };
    if (given()) r.protocol = protocol();
    if (given()) r.direction = uint8_t(1 + below(2));
    if (given()) r.capture = uint16_t(below(4));
    if (given()) r.vlan = uint16_t(below(3) * 100);
    r.action = one_in(2) ? Action::pass : Action::drop;
    r.policy = number;
    return r;
  }

  Address address_near(const Address& prefix, uint8_t length) {
    Address a = length == 0 ? address(8) : prefix;
    const bool edge = one_in(4);
    const uint8_t all = uint8_t(below(2));
    for (uint32_t bit = length; length != 0 && bit < 128; bit++)
      if (edge ? all : below(2)) a.bytes[bit / 8] |= uint8_t(0x80 >> bit % 8);
    if (one_in(8)) a.bytes[below(16)] ^= uint8_t(1 << below(8));
    return a;
  }

  uint16_t port_near(const uint16_t* range) {
    switch (below(8)) {
      case 0: return uint16_t(range[0] - 1);
      case 1: return uint16_t(range[1] + 1);
      case 2: return range[1];
      case 3: return uint16_t(below(65536));
      case 4: return uint16_t((range[0] + range[1]) / 2);
      default: return range[0];
    }
  }

  std::mt19937 random_;
};

struct Tally {
  uint32_t pairs = 0, matched = 0;
};

void compare(World& world, const Program& program, uint32_t tuples, Tally& tally) {
  for (uint32_t i = 0; i < tuples; i++) {
    const Tuple tuple = world.near(program.rules[world.below(uint32_t(program.rules.size()))]);
    const Classification expected = classify_in_turn(program, tuple), found = classify(program, tuple);
    const uint32_t first = program.rule_index.find(tuple);
    tally.pairs++;
    tally.matched += expected.policy != kNoPolicy;
    // A check for each would take most of the time.
    if ((first == ClassifierIndex::kNone ? kNoPolicy : first) == expected.policy && found.policy == expected.policy && found.action == expected.action) continue;
    INFO("rules: ", program.rules.size(), ", pair ", tally.pairs);
    REQUIRE(first == expected.policy);
    REQUIRE(found.policy == expected.policy);
    REQUIRE(found.action == expected.action);
  }
}

}  // namespace

TEST_CASE("a program may have another one's rules") {
  auto owner = test::program(Encapsulation::nsh);
  for (uint32_t i = 0; i < 20; i++) owner->rules.push_back({.protocol = uint8_t(i), .action = Action::drop, .policy = i});
  owner->rules.erase(owner->rules.begin());
  REQUIRE(owner->check().empty());
  auto other = test::program(Encapsulation::nsh);
  other->rules.clear();
  other->rules_of = owner;
  REQUIRE(other->check().empty());
  for (uint32_t protocol = 0; protocol < 30; protocol++) {
    Tuple t;
    t.protocol = uint8_t(protocol);
    const Classification a = classify(*owner, t), b = classify(*other, t);
    CHECK(a.action == b.action);
    CHECK(a.policy == b.policy);
    CHECK((b.action == Action::drop) == (protocol < 20));
  }
  other->chains.clear();
  other->paths.clear();
  owner->rules.push_back({.action = Action::chain, .chain = 0});
  CHECK_FALSE(other->check().empty());  // they are still checked against what this program has
}

TEST_CASE("the index finds the rule that asking in turn finds") {
  INFO("seed ", kSeed);
  World world(kSeed);
  Tally tally;
  for (uint32_t i = 0; i < 4000; i++) compare(world, world.program(1 + world.below(40), world.kind()), 200, tally);
  for (uint32_t i = 0; i < 100; i++) compare(world, world.program(100 + world.below(900), world.kind()), 2000, tally);
  for (uint32_t i = 0; i < 5; i++) compare(world, world.program(20'000, world.kind()), 2000, tally);
  MESSAGE(tally.matched, " of ", tally.pairs, " pairs matched a rule");
  CHECK(tally.pairs >= 1'000'000);
  CHECK(tally.matched > tally.pairs / 4);
  CHECK(tally.matched < tally.pairs * 9 / 10);
}

TEST_CASE("rules that differ in one condition only are told apart by it") {
  constexpr uint32_t kRules = 60'000;
  const auto v4 = [](uint32_t n) { return Address::from_ipv4(std::array<uint8_t, 4>{uint8_t(n >> 24), uint8_t(n >> 16), uint8_t(n >> 8), uint8_t(n)}.data()); };
  struct Case {
    const char* what;
    void (*rule)(Rule&, uint32_t, const Address&);
    void (*tuple)(Tuple&, uint32_t, const Address&);
  };
  const Case cases[] = {
      {"source", [](Rule& r, uint32_t, const Address& a) { r.source = a, r.source_prefix = 128; }, [](Tuple& t, uint32_t, const Address& a) { t.source = a; }},
      {"destination", [](Rule& r, uint32_t, const Address& a) { r.destination = a, r.destination_prefix = 128; }, [](Tuple& t, uint32_t, const Address& a) { t.destination = a; }},
      {"source port", [](Rule& r, uint32_t i, const Address&) { r.source_port[0] = r.source_port[1] = uint16_t(i); }, [](Tuple& t, uint32_t i, const Address&) { t.source_port = uint16_t(i); }},
      {"destination port", [](Rule& r, uint32_t i, const Address&) { r.destination_port[0] = r.destination_port[1] = uint16_t(i); }, [](Tuple& t, uint32_t i, const Address&) { t.destination_port = uint16_t(i); }},
      {"capture", [](Rule& r, uint32_t i, const Address&) { r.capture = uint16_t(i); }, [](Tuple& t, uint32_t i, const Address&) { t.capture = uint16_t(i); }},
      {"VLAN", [](Rule& r, uint32_t i, const Address&) { r.vlan = uint16_t(i); }, [](Tuple& t, uint32_t i, const Address&) { t.vlan_outer = uint16_t(i); }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Program p;
    for (uint32_t i = 0; i < kRules; i++) {
      Rule r{.policy = i};
      c.rule(r, i, v4(0x0a000000 + i * 3));
      p.rules.push_back(r);
    }
    REQUIRE(p.check() == "");
    Tuple t;
    t.protocol = kIpTcp;
    t.source = t.destination = v4(0xc0000201);
    t.source_port = t.destination_port = t.capture = t.vlan_outer = 64'000;
    REQUIRE(classify(p, t).policy == kNoPolicy);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < kRules; i++) {
      c.tuple(t, i, v4(0x0a000000 + i * 3));
      wrong += classify(p, t).policy != i;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("the index of rules that all overlap stays in proportion to their number") {
  World world(kSeed);
  for (const World::Kind kind : {World::Kind{2, 2, 3, 8}, World::Kind{0, 1, 0}, World::Kind{1, 1, 1, 1, true}, World::Kind{4, 4, 4, 200}})
    for (const uint32_t rules : {1000u, 20'000u}) CHECK(world.program(rules, kind).rule_index.bytes() <= 400 * rules);
}
