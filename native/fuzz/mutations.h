// Random damage: to a frame, and to what a target is given.
#pragma once
#include <algorithm>
#include <cstdint>
#include <iterator>
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

// At least one change, and at most as long as libFuzzer's inputs. `other` is another input of the target.
inline void change(std::vector<uint8_t>& bytes, const std::vector<uint8_t>& other, std::mt19937_64& random) {
  constexpr size_t kLongest = 2048, kMostOfOne = 64;
  if (bytes.size() > kLongest) bytes.resize(kLongest);
  auto place = [&](size_t size) { return size ? size_t(random() % size) : 0; };
  // Short runs mostly: a header's fields are.
  auto run = [&](size_t most) { return most ? 1 + size_t(random() % std::min(most, random() % 4 ? size_t(8) : kMostOfOne)) : 0; };
  for (uint64_t edits = 1 + random() % 6; edits; edits--) {
    const size_t at = place(bytes.size()), left = bytes.size() - at;
    const auto here = bytes.begin() + long(at);
    switch (random() % 9) {
      case 0: if (left) bytes[at] ^= uint8_t(1 << random() % 8); break;
      case 1: if (left) bytes[at] = uint8_t(random()); break;
      case 2: if (left) bytes[at] = uint8_t(bytes[at] + (random() % 2 ? 1 : -1)); break;
      case 3: bytes.insert(here, run(kMostOfOne), uint8_t(random())); break;
      case 4: bytes.erase(here, here + long(run(left))); break;
      case 5: {  // a run of its own once more, before or over what is there
        const std::vector<uint8_t> copy(here, here + long(run(left)));
        const size_t to = place(bytes.size());
        if (random() % 2) {
          bytes.insert(bytes.begin() + long(to), copy.begin(), copy.end());
        } else {
          std::copy_n(copy.begin(), std::min(copy.size(), bytes.size() - to), bytes.begin() + long(to));
        }
        break;
      }
      case 6: {  // of the other, into this one
        const size_t from = place(other.size());
        bytes.insert(here, other.begin() + long(from), other.begin() + long(from + run(other.size() - from)));
        break;
      }
      case 7: {  // the rest of the other
        const size_t from = place(other.size());
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + long(from), other.end());
        break;
      }
      case 8: {  // a length
        static constexpr uint16_t kExtremes[] = {0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7ff, 0x7fff, 0x8000, 0xfffe, 0xffff};
        const uint16_t value = random() % 4 ? kExtremes[random() % std::size(kExtremes)] : uint16_t(bytes.size());
        if (left == 1) bytes[at] = uint8_t(value);
        if (left > 1) store16(&bytes[at], value);
        break;
      }
    }
    if (bytes.size() > kLongest) bytes.resize(kLongest);
  }
}

// One in three has an offload header, as likely as not one that makes no sense.
inline Offload random_offload(std::mt19937_64& random) {
  if (random() % 3) return {};
  return {uint8_t(random() % 4), uint8_t(random() % 6), uint16_t(random()), uint16_t(random() % 2000), uint16_t(random() % 100), uint16_t(random() % 40)};
}

}  // namespace weir::fuzz
