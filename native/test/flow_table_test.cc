#include <doctest/doctest.h>

#include <map>
#include <random>

#include "engine/flow_table.h"

using namespace weir;

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
      const uint32_t n = random() % 400;
      Flow* found = table.find(key(n), hash(n));
      const auto expected = model.find(n);
      REQUIRE(found == (expected == model.end() ? nullptr : expected->second));
      if (found) {
        table.erase(found);
        model.erase(expected);
      } else if (!table.full()) {
        model[n] = table.insert(key(n), hash(n), uint64_t(i));
      }
      REQUIRE(table.size() == model.size());
    }
  }
}

TEST_CASE("streams leave in order of idleness, each class by its own timeout") {
  FlowTable table(8);
  constexpr uint64_t kSecond = 1'000'000'000;
  Flow* tcp = table.insert(key(1), 1, 0);
  table.touch(tcp, IdleClass::tcp, 0);
  Flow* udp = table.insert(key(2), 2, 10 * kSecond);
  Flow* other = table.insert(key(3), 3, 20 * kSecond);
  table.touch(udp, IdleClass::other, 30 * kSecond);
  const IdleTimeouts idle;
  CHECK(table.expired(60 * kSecond, idle) == nullptr);
  CHECK(table.idlest() == tcp);
  CHECK(table.expired(141 * kSecond, idle) == other);
  table.erase(other);
  CHECK(table.expired(141 * kSecond, idle) == nullptr);
  CHECK(table.expired(151 * kSecond, idle) == udp);
  table.touch(tcp, IdleClass::closed, 200 * kSecond);
  table.erase(udp);
  CHECK(table.expired(204 * kSecond, idle) == nullptr);
  CHECK(table.expired(205 * kSecond, idle) == tcp);
}

TEST_CASE("pins of long chains stand beside the entry") {
  FlowTable table(4);
  Flow* flow = table.insert(key(1), 1, 0);
  for (uint32_t i = 0; i < kMaxHops; i++) CHECK(table.pin(flow, i) == kNoInstance);
  for (uint32_t i = 0; i < kMaxHops; i++) table.set_pin(flow, i, uint16_t(i * 3));
  for (uint32_t i = 0; i < kMaxHops; i++) CHECK(table.pin(flow, i) == i * 3);
}
