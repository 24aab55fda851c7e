#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "engine/affinity_group.h"

using namespace weir;

// Appendix A of the SipHash paper: key 00 … 0f, message 00 … 0e.
TEST_CASE("SipHash-2-4 as its authors have it") {
  const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  SipHash24<uint64_t> hash(key);
  hash.add(0x0706050403020100);
  hash.add(0x000e0d0c0b0a0908 | uint64_t(15) << 56);
  uint64_t result;
  hash.finish(result);
  CHECK(result == 0xa129ca6149be45e5);
}

TEST_CASE("several hashes at a time are those of one at a time") {
  std::mt19937_64 random(11);
  const uint64_t key[2] = {random(), random()};
  for (int turn = 0; turn < 1000; turn++) {
    std::vector<FlowKey> keys(kHashLanes);
    std::vector<const FlowKey*> of;
    for (FlowKey& k : keys) {
      for (uint8_t& byte : k.a.bytes) byte = uint8_t(random());
      for (uint8_t& byte : k.b.bytes) byte = uint8_t(random());
      k.port_a = uint16_t(random());
      k.port_b = uint16_t(random());
      k.vlans = uint32_t(random()) & 0xffffff;
      k.tenant_protocol = uint32_t(random());
      of.push_back(&k);
    }
    const uint32_t n = uint32_t(turn) % kHashLanes + 1;
    std::vector<uint64_t> hashes(kHashLanes + 1, 7);
    affinity_hashes(key, of.data(), n, hashes.data());
    for (uint32_t i = 0; i < n; i++) REQUIRE(hashes[i] == affinity_hash(key, keys[i], Affinity::five_tuple));
    REQUIRE(hashes[n] == 7);
  }
}
