// Random damage to a frame.
#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "engine/frame.h"
#include "wire/bytes.h"

namespace weir::fuzz {

inline void mutate(std::vector<uint8_t>& bytes, std::mt19937_64& random) {
  for (uint64_t edits = random() % 5; edits; edits--) {
    const size_t at = bytes.empty() ? 0 : random() % bytes.size();
    switch (random() % 6) {
      case 0: if (!bytes.empty()) bytes[at] = uint8_t(random()); break;
      case 1: if (!bytes.empty()) bytes[at] ^= uint8_t(1 << random() % 8); break;
      case 2: bytes.resize(at); break;
      case 3: bytes.insert(bytes.begin() + long(at), random() % 40, uint8_t(random())); break;
      case 4: bytes.resize(bytes.size() + random() % 2000, uint8_t(random())); break;
      case 5: if (bytes.size() > at + 1) store16(&bytes[at], uint16_t(random() % 2 ? 0xffff : bytes.size())); break;
    }
  }
}

// One in three has an offload header, as likely as not one that makes no sense.
inline Offload random_offload(std::mt19937_64& random) {
  if (random() % 3) return {};
  return {uint8_t(random() % 4), uint8_t(random() % 6), uint16_t(random()), uint16_t(random() % 2000), uint16_t(random() % 100), uint16_t(random() % 40)};
}

}  // namespace weir::fuzz
