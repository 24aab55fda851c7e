// Health probes: what counts as an answer, when one counts as lost, and what ICMP says of an instance.
#include <doctest/doctest.h>

#include "frames.h"
#include "node/stamped_datagram.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr uint64_t kMs = 1'000'000;

// One probed instance (fw-1, id 0), each 10 ms, answers within 5 ms.
std::shared_ptr<Program> probed(Encapsulation encapsulation, uint64_t key = 1) {
  auto p = program(encapsulation);
  p->probe_key[0] = key;
  p->instances[0].probe = {10 * kMs, 5 * kMs, 2, 3, encapsulation};
  return p;
}

std::vector<CollectedFrame> probe(Engine& engine, uint64_t now) {
  FrameCollector sink;
  engine.refresh();
  engine.probe(now, sink);
  return std::move(sink.frames());
}

// As `weir node` sends it back.
Bytes returned(const CollectedFrame& f) {
  Bytes bytes = f.bytes;
  Frame frame{bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
  const StampedFrame outer = read_outer(frame);
  REQUIRE(outer.result == StampedFrame::Result::ok);
  REQUIRE(is_probe_frame(frame, outer));
  uint32_t datagrams;
  REQUIRE(turn_round(frame, outer, datagrams) == NodeDrop::count_);
  return bytes;
}

ProbeRow row(Engine& engine) {
  const auto rows = engine.probes().rows();
  REQUIRE(rows.size() == 1);
  return rows[0];
}

}  // namespace

TEST_CASE("a probe comes back in time, and its time is known") {
  for (const auto encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    Engine engine({100});
    engine.install(probed(encapsulation));
    const auto sent = probe(engine, 100 * kMs);
    REQUIRE(sent.size() == 1);
    CHECK(sent[0].port == kUnderlayPort);
    CHECK(engine.probes().due() == 105 * kMs);
    CHECK(process(engine, kUnderlayPort, returned(sent[0]), {}, 102 * kMs).empty());
    CHECK(row(engine).answered_in_a_row == 1);
    CHECK(row(engine).latency_ns == 2 * kMs);
    CHECK(engine.probes().take_news());
    CHECK_FALSE(engine.probes().take_news());
    CHECK(dropped(engine, DropReason::oam) == 0);
    CHECK(probe(engine, 109 * kMs).empty());
    CHECK(probe(engine, 110 * kMs).size() == 1);
    CHECK(engine.counters().instances[0].received.packets.get() == 0);
  }
}

TEST_CASE("what is not answered in time is lost, and three in a row are news") {
  Engine engine({100});
  engine.install(probed(Encapsulation::nsh));
  uint64_t now = 100 * kMs;
  REQUIRE(probe(engine, now).size() == 1);
  for (uint32_t lost = 1; lost <= 4; lost++) {
    CHECK_FALSE(engine.probes().take_news());
    CHECK(engine.probes().due() == now + 5 * kMs);
    CHECK(probe(engine, now + 5 * kMs).empty());
    CHECK(row(engine).lost_in_a_row == lost);
    CHECK(engine.probes().take_news() == (lost == 3));
    now += 10 * kMs;
    CHECK(engine.probes().due() == now);
    CHECK(probe(engine, now).size() == 1);
  }
}

TEST_CASE("a late answer, a second one, a made-up one and one from elsewhere count for nothing") {
  for (const auto encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    Engine engine({100});
    engine.install(probed(encapsulation));
    const Bytes late = returned(probe(engine, 100 * kMs)[0]);
    probe(engine, 105 * kMs);
    CHECK(process(engine, kUnderlayPort, late, {}, 106 * kMs).empty());
    CHECK(row(engine).late == 1);
    const Bytes good = returned(probe(engine, 110 * kMs)[0]);
    process(engine, kUnderlayPort, late, {}, 111 * kMs);  // the nonce of another one
    CHECK(row(engine).refused == 1);
    Bytes elsewhere = good;
    elsewhere[14 + 15] = 12;  // outer source: another instance
    Ipv4::finish(&elsewhere[14]);
    process(engine, kUnderlayPort, elsewhere, {}, 111 * kMs);
    CHECK(row(engine).answered == 0);
    for (size_t i = good.size() - 8; i < good.size(); i++) {
      Bytes forged = good;
      forged[i] ^= 1;
      process(engine, kUnderlayPort, forged, {}, 111 * kMs);
    }
    CHECK(row(engine).refused == 9);
    CHECK(row(engine).answered == 0);
    process(engine, kUnderlayPort, good, {}, 112 * kMs);
    CHECK(row(engine).answered == 1);
    process(engine, kUnderlayPort, good, {}, 112 * kMs);
    CHECK(row(engine).answered == 1);
    CHECK(row(engine).late == 2);
    CHECK(dropped(engine, DropReason::oam) == 12);
    // Cut anywhere, it is no answer and nothing is read past its end.
    const Bytes next = returned(probe(engine, 120 * kMs)[0]);
    for (size_t n = 0; n < next.size(); n++) process(engine, kUnderlayPort, Bytes(next.begin(), next.begin() + long(n)), {}, 121 * kMs);
    CHECK(row(engine).answered == 1);
  }
}

TEST_CASE("nonces follow from the key alone, and never repeat") {
  Engine a({100}), b({100}), c({100});
  a.install(probed(Encapsulation::nsh, 1));
  b.install(probed(Encapsulation::nsh, 1));
  c.install(probed(Encapsulation::nsh, 2));
  const Bytes first = probe(a, 0)[0].bytes;
  CHECK(first == probe(b, 0)[0].bytes);
  CHECK(first != probe(c, 0)[0].bytes);
  probe(a, 5 * kMs);
  CHECK(first != probe(a, 10 * kMs)[0].bytes);
}

TEST_CASE("a new program keeps what is known of instances that stay, and forgets the others") {
  Engine engine({100});
  engine.install(probed(Encapsulation::nsh));
  process(engine, kUnderlayPort, returned(probe(engine, 100 * kMs)[0]), {}, 101 * kMs);
  auto more = probed(Encapsulation::nsh);
  more->instances[3].probe = {10 * kMs, 5 * kMs, 2, 3, Encapsulation::geneve};
  engine.install(more);
  probe(engine, 102 * kMs);
  CHECK(engine.probes().rows().size() == 2);
  CHECK(engine.probes().rows()[0].answered == 1);
  engine.install(program(Encapsulation::nsh));
  CHECK(probe(engine, 200 * kMs).empty());
  CHECK(engine.probes().rows().empty());
  CHECK(engine.probes().due() == kNever);
}

TEST_CASE("a thread that was kept from running reads what waits before it gives up on it") {
  Engine engine({100});
  engine.install(probed(Encapsulation::nsh));
  const auto sent = probe(engine, 100 * kMs);
  CHECK(probe(engine, 300 * kMs).empty());  // 195 ms late
  CHECK(row(engine).lost_in_a_row == 0);
  process(engine, kUnderlayPort, returned(sent[0]), {}, 301 * kMs);
  CHECK(row(engine).answered_in_a_row == 1);
}

TEST_CASE("an instance without a neighbour entry loses its probes without one being sent") {
  Engine engine({100});
  auto p = probed(Encapsulation::nsh);
  p->instances[0].resolved = false;
  engine.install(p);
  for (uint64_t now = 0; now < 100 * kMs; now += 10 * kMs) CHECK(probe(engine, now).empty());
  CHECK(row(engine).lost_in_a_row == 10);
}

TEST_CASE("ICMP unreachable about a stamped packet counts for its instance, other ICMP for nobody") {
  Engine engine({100});
  engine.install(program(Encapsulation::nsh));
  // 10.20.0.11 -> 10.20.0.1, port unreachable, quoting 10.20.0.1 -> 10.20.0.11 UDP 4790.
  const Bytes error = hex("020000000001" "02000000000b" "0800" "4500003800000000400166530a14000b0a140001" "0303000000000000"
                          "4500002000004000401126980a1400010a14000b" "c00012b6000c0000");
  auto unreachable = [&](uint16_t id) { return engine.counters().instances[id].unreachable.get(); };
  process(engine, kUnderlayPort, error);
  CHECK(unreachable(0) == 1);
  CHECK(engine.counters().ignored.get() == 0);
  struct Case { size_t at; uint8_t value; };
  for (const Case& c : {Case{34, 11}, Case{51, 6}, Case{57, 9}, Case{61, 99}, Case{65, 0xbe}, Case{42, 0x46}}) {
    Bytes other = error;
    other[c.at] = c.value;
    process(engine, kUnderlayPort, other);
  }
  CHECK(unreachable(0) == 1);
  CHECK(engine.counters().ignored.get() == 6);
  for (size_t n = 0; n < error.size(); n++) process(engine, kUnderlayPort, Bytes(error.begin(), error.begin() + long(n)));
  CHECK(unreachable(0) == 1);

  const Bytes error6 = hex("020000000001" "02000000000b" "86dd" "6000000000383a40" "fd200000000000000000000000000011" "fd200000000000000000000000000001" "0104000000000000"
                           "60000000000c1140" "fd200000000000000000000000000001" "fd200000000000000000000000000011" "c00017c1000c0000");
  auto p = program(Encapsulation::nsh);
  p->underlays[0].ipv6 = Address::from_ipv6(&error6[14 + 24]);
  p->instances[1].address = Address::from_ipv6(&error6[14 + 8]);
  REQUIRE(p->check().empty());
  engine.install(p);
  process(engine, kUnderlayPort, error6);
  CHECK(unreachable(1) == 1);
}
