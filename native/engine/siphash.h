// SipHash-2-4 (Aumasson, Bernstein, 2012) over the fixed 41-byte affinity tuple.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

namespace weir {

inline uint64_t siphash24(const uint64_t key[2], const uint8_t* data, uint32_t n) {
  uint64_t v0 = key[0] ^ 0x736f6d6570736575, v1 = key[1] ^ 0x646f72616e646f6d;
  uint64_t v2 = key[0] ^ 0x6c7967656e657261, v3 = key[1] ^ 0x7465646279746573;
  auto round = [&] {
    v0 += v1; v1 = std::rotl(v1, 13); v1 ^= v0; v0 = std::rotl(v0, 32);
    v2 += v3; v3 = std::rotl(v3, 16); v3 ^= v2;
    v0 += v3; v3 = std::rotl(v3, 21); v3 ^= v0;
    v2 += v1; v1 = std::rotl(v1, 17); v1 ^= v2; v2 = std::rotl(v2, 32);
  };
  uint32_t at = 0;
  for (; at + 8 <= n; at += 8) {
    uint64_t m;
    std::memcpy(&m, data + at, 8);
    v3 ^= m;
    round(); round();
    v0 ^= m;
  }
  uint64_t last = uint64_t(n) << 56;
  for (uint32_t i = 0; at + i < n; i++) last |= uint64_t(data[at + i]) << (8 * i);
  v3 ^= last;
  round(); round();
  v0 ^= last;
  v2 ^= 0xff;
  round(); round(); round(); round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace weir
