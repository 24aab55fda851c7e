// The way to an instance carries less than its underlay: what is stamped for it or sent on to it is held to that way's MTU.
// What routers say of it is noted, if it is about a packet of ours to an instance.
#include <doctest/doctest.h>

#include "frames.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr PortId kIn = capture_in_port(0);
constexpr uint64_t kNow = 1'000'000'000;  // late enough for ICMP errors to be allowed
constexpr uint32_t kOverhead = 20 + 8 + 24 + 14;

// Of both services the second instance is down: each stream meets instance 0 and then instance 2, whose way has `mtu`.
std::shared_ptr<Program> narrow(uint32_t mtu) {
  auto p = program(Encapsulation::nsh);
  p->instances[1].state = p->instances[3].state = InstanceState::down;
  p->instances[2].way_mtu = mtu;
  REQUIRE(p->check() == "");
  return p;
}

std::vector<CollectedFrame> run(Engine& engine, PortId port, const Bytes& bytes) {
  Bytes copy = bytes;
  copy.insert(copy.begin(), 192, 0);
  Frame frame{copy.data() + 192, uint32_t(bytes.size()), uint32_t(bytes.size()), 192, {}, false};
  TestSink sink(true);
  engine.process(kNow, port, frame, sink);
  return std::move(sink.collector.frames());
}

}  // namespace

TEST_CASE("a way narrower than its underlay: senders are told of it, whichever instance of the path it leads to") {
  Engine engine({100});
  engine.install(narrow(1400));
  constexpr uint32_t kFits = 1400 - kOverhead - 28;
  const auto sent = run(engine, kIn, datagram(kFits));
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].port == kUnderlayPort);
  const auto next = run(engine, kUnderlayPort, turned(sent[0]).bytes);
  REQUIRE(next.size() == 1);
  CHECK(next[0].bytes.size() == 14 + 1400);
  const auto told = run(engine, kIn, datagram(kFits + 1));
  REQUIRE(told.size() == 1);
  CHECK(told[0].port == kIn);
  CHECK(load16(&told[0].bytes[40]) == 1400 - kOverhead);
  CHECK(engine.counters().came() == engine.counters().went());
}

TEST_CASE("a way that says more than its underlay has: the underlay's MTU holds, also when that changes") {
  auto p = narrow(9000);
  CHECK(p->instances[2].mtu == 1500);
  CHECK(p->instances[0].mtu == 1500);
  p->underlays[0].mtu = 9000;
  p->instances[2].way_mtu = 4000;
  REQUIRE(p->check() == "");
  CHECK(p->instances[2].mtu == 4000);
  CHECK(p->instances[0].mtu == 9000);
}

TEST_CASE("a packet that is on its way when the way to its next instance gets narrower is dropped with a reason") {
  Engine engine({100});
  engine.install(narrow(1500));
  const auto sent = run(engine, kIn, datagram(1400));
  REQUIRE(sent.size() == 1);
  engine.install(narrow(1400));
  CHECK(run(engine, kUnderlayPort, turned(sent[0]).bytes).empty());
  CHECK(dropped(engine, DropReason::too_big) == 1);
  CHECK(engine.counters().came() == engine.counters().went());
}

namespace {

// The router 10.20.0.254 about a packet of 10.20.0.1 to 10.20.0.21, instance 2: "fragmentation needed".
Bytes fragmentation_needed(uint16_t mtu) {
  Bytes f = hex("020000000001" "0200000000fe" "0800" "4500003800000000400165660a1400fe0a140001" "0304000000000000"
                "4500057800004000401126980a1400010a140015" "c00012b605640000");
  store16(&f[40], mtu);
  return f;
}

Bytes packet_too_big(uint32_t mtu) {
  Bytes f = hex("020000000001" "0200000000fe" "86dd" "6000000000383a40" "fd2000000000000000000000000000fe" "fd200000000000000000000000000001" "0200000000000000"
                "6000000005401140" "fd200000000000000000000000000001" "fd200000000000000000000000000021" "c00012b605400000");
  store32(&f[58], mtu);
  return f;
}

uint64_t told(const Engine& engine, uint16_t id) { return engine.counters().instances[id].told_mtu.get(); }

}  // namespace

TEST_CASE("what a router says of the way to an instance is noted with its time, where it is less than is known") {
  auto p = narrow(1450);
  p->instances[2].address = ip(10, 20, 0, 21);
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  CHECK(run(engine, kUnderlayPort, fragmentation_needed(1400)).empty());
  CHECK(told(engine, 2) == (kNow / 1000 << 16 | 1400));
  CHECK(engine.counters().instances[2].unreachable.get() == 0);
  for (const uint16_t more : {1450, 1451, 65535}) run(engine, kUnderlayPort, fragmentation_needed(more));
  CHECK((told(engine, 2) & 0xffff) == 1400);
  CHECK(engine.counters().ignored.get() == 0);
  run(engine, kUnderlayPort, fragmentation_needed(576));
  CHECK((told(engine, 2) & 0xffff) == 576);
  for (const uint16_t nonsense : {1, 68, 575}) run(engine, kUnderlayPort, fragmentation_needed(nonsense));
  CHECK((told(engine, 2) & 0xffff) == 576);
  CHECK(engine.counters().ignored.get() == 3);
  for (const uint16_t id : {0, 1, 3}) CHECK(told(engine, id) == 0);
}

TEST_CASE("a router from before RFC 1191, which does not say how much its link carries, means the least") {
  auto p = narrow(1500);
  p->instances[2].address = ip(10, 20, 0, 21);
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  run(engine, kUnderlayPort, fragmentation_needed(0));
  CHECK((told(engine, 2) & 0xffff) == 576);
}

TEST_CASE("what is not about a stamped packet of ours to an instance says nothing of its way") {
  auto p = narrow(1500);
  p->instances[2].address = ip(10, 20, 0, 21);
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  struct Case { size_t at; uint8_t value; };
  // Not ICMP, another type, IP options in the quote, not UDP, another sender, an address of nobody, another port.
  for (const Case& c : {Case{23, 17}, Case{34, 11}, Case{42, 0x46}, Case{51, 6}, Case{57, 9}, Case{61, 99}, Case{65, 0xbe}}) {
    Bytes other = fragmentation_needed(1400);
    other[c.at] = c.value;
    run(engine, kUnderlayPort, other);
  }
  const Bytes whole = fragmentation_needed(1400);
  for (size_t n = 0; n < whole.size(); n++) run(engine, kUnderlayPort, Bytes(whole.begin(), whole.begin() + long(n)));
  run(engine, capture_out_port(0), whole);
  for (const uint16_t id : {0, 1, 2, 3}) CHECK(told(engine, id) == 0);
}

TEST_CASE("ICMPv6 packet too big is heeded down to 1280") {
  auto p = narrow(1500);
  p->underlays[0].ipv6 = Address::from_ipv6(hex("fd200000000000000000000000000001").data());
  p->instances[2].address = Address::from_ipv6(hex("fd200000000000000000000000000021").data());
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  for (const uint32_t nonsense : {0u, 576u, 1279u, 1500u, 0x10578u, 0xffffffffu}) run(engine, kUnderlayPort, packet_too_big(nonsense));
  CHECK(told(engine, 2) == 0);
  run(engine, kUnderlayPort, packet_too_big(1400));
  CHECK((told(engine, 2) & 0xffff) == 1400);
  run(engine, kUnderlayPort, packet_too_big(1280));
  CHECK((told(engine, 2) & 0xffff) == 1280);
}
