// The way to an instance carries less than its underlay: what is stamped for it or sent on to it is held to that way's MTU.
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

// UDP with DF and this many bytes behind its header.
Bytes datagram(uint32_t length) {
  Bytes f = packet(kIpUdp, 0x010002, 40000, 0);
  f.resize(42);
  f.resize(42 + length, 'x');
  store16(&f[16], uint16_t(28 + length));
  store16(&f[38], uint16_t(8 + length));
  Ipv4::finish(&f[14]);
  return f;
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
