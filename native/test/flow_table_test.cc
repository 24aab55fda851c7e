#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/flow_table.h"
#include "frames.h"
#include "wire/ip.h"

using namespace weir;
using namespace weir::test;

namespace {

FlowKey key(uint32_t n) {
  FlowKey k;
  k.port_a = uint16_t(n);
  k.tenant_protocol = n << 8 | 6;
  return k;
}

}  // namespace

TEST_CASE("the table agrees with a map through random inserts, finds and erasures, even when hashes collide") {
  for (const uint64_t spread : {~uint64_t(0), uint64_t(0x7), uint64_t(0)}) {
    FlowTable table(256);
    std::map<uint32_t, Flow*> model;
    std::mt19937 random(7);
    auto hash = [&](uint32_t n) { return (uint64_t(n) * 0x9e3779b97f4a7c15) & spread; };
    for (int i = 0; i < 20'000; i++) {
      table.epochs().pass(0);
      const uint32_t n = random() % 400;
      Flow* found = table.find(key(n), hash(n));
      const auto expected = model.find(n);
      REQUIRE(found == (expected == model.end() ? nullptr : expected->second));
      std::lock_guard lock(table.lock());
      if (found) {
        table.remove(found);
        model.erase(expected);
      } else if (!table.full()) {
        Flow* flow = table.allocate(key(n), hash(n), uint64_t(i));
        REQUIRE(flow);
        table.publish(flow, hash(n));
        model[n] = flow;
      }
      REQUIRE(table.size() == model.size());
    }
    CHECK(table.high_water() <= 256 + 2);  // entries are used again
  }
}

TEST_CASE("an entry taken out is used again only when every reader has passed") {
  FlowTable table(4);
  table.epochs().pass(0);
  table.epochs().pass(1);
  Flow* flow = table.allocate(key(1), 1, 0);
  table.publish(flow, 1);
  table.remove(flow);
  CHECK(table.allocate(key(2), 2, 0) != flow);
  table.epochs().pass(0);
  CHECK(table.allocate(key(3), 3, 0) != flow);  // reader 1 may still hold it
  table.epochs().leave(1);
  CHECK(table.allocate(key(4), 4, 0) == flow);
}

TEST_CASE("however many streams end at once, few entries wait to be used again") {
  Engine engine({.flows = 20'000});
  engine.install(program(Encapsulation::nsh));
  Bytes frame = hex("0200000000bb0200000000aa08004500001c0000000040110000" "0a0100010a020001" "0000000900080000");
  for (uint32_t n = 0; n < 20'000; n++) {
    store16(&frame[34], uint16_t(n));
    store16(&frame[28], uint16_t(n >> 14));
    Ipv4::finish(&frame[14]);
    process(engine, capture_in_port(0), frame);
  }
  REQUIRE(engine.flows().size() == 20'000);
  size_t most = 0;
  uint64_t now = 1'000'000'000'000;
  for (int step = 0; engine.flows().size() && step < 10'000; step++) {
    engine.tick(now += 100'000);
    most = std::max(most, engine.flows().retired());
  }
  CHECK(engine.flows().size() == 0);
  CHECK(most <= 64);
}

TEST_CASE("the idlest stream of a small table is the one to give up, of those that nobody has answered if there are such") {
  for (const bool all_answered : {true, false}) {
    FlowTable table(8);
    for (uint32_t i = 1; i <= 8; i++) {
      Flow* flow = table.allocate(key(i), i, i == 5 ? 1 : i == 3 ? 2 : 100 + i);
      flow->tcp = all_answered || i % 2 ? TcpState::established : TcpState::opening;
      if (!all_answered && i == 3) flow->tcp = TcpState::half_seen;
      table.publish(flow, i);
    }
    CHECK(table.full());
    CHECK(table.victim()->key == key(all_answered ? 5 : 3));
  }
}

TEST_CASE("who has been answered meanwhile is no newcomer any more, however many streams come and go") {
  FlowTable table(64);
  for (uint32_t i = 0; i < 10'000; i++) {
    table.epochs().pass(0);
    if (table.full()) table.remove(table.victim());
    Flow* flow = table.allocate(key(i), i, i);
    REQUIRE(flow);
    flow->tcp = TcpState::opening;
    table.publish(flow, i);
    if (i % 2 && i < 60) flow->tcp = TcpState::established;
  }
  for (uint32_t i = 1; i < 60; i += 2) CHECK(table.find(key(i), i));
}

TEST_CASE("each class of stream is idle by its own timeout") {
  constexpr uint64_t kSecond = 1'000'000'000;
  const IdleTimeouts idle;
  Flow tcp, udp;
  tcp.key = key(1);
  udp.key.tenant_protocol = 17;
  CHECK(!idle_over(tcp, 349 * kSecond, idle));
  CHECK(idle_over(tcp, 350 * kSecond, idle));
  tcp.tcp = TcpState::opening;
  CHECK(!idle_over(tcp, 119 * kSecond, idle));
  CHECK(idle_over(tcp, 120 * kSecond, idle));
  tcp.tcp = TcpState::closed;
  CHECK(idle_over(tcp, 5 * kSecond, idle));
  CHECK(!idle_over(udp, 119 * kSecond, idle));
  CHECK(idle_over(udp, 120 * kSecond, idle));
}

TEST_CASE("pins of long chains stand beside the entry") {
  FlowTable table(4);
  Flow* flow = table.allocate(key(1), 1, 0);
  for (uint32_t i = 0; i < kMaxHops; i++) CHECK(table.pin(flow, i) == kNoInstance);
  table.change_route(flow, [&](Route& r) {
    for (uint32_t i = 0; i < kMaxHops; i++) table.set_pin(flow, r, i, uint16_t(i * 3));
  });
  for (uint32_t i = 0; i < kMaxHops; i++) CHECK(table.pin(flow, i) == i * 3);
}
