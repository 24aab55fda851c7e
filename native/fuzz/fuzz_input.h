// What a fuzz target is given, taken apart: numbers and runs of bytes until there are none left.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>

#include "engine/frame.h"

namespace weir::fuzz {

class Input {
 public:
  Input(const uint8_t* bytes, size_t size) : rest_(bytes, size) {}

  bool empty() const { return rest_.empty(); }
  size_t left() const { return rest_.size(); }
  uint8_t u8() {
    if (rest_.empty()) return 0;
    const uint8_t value = rest_[0];
    rest_ = rest_.subspan(1);
    return value;
  }
  uint16_t u16() {
    const uint16_t high = u8();
    return uint16_t(high << 8 | u8());
  }
  uint32_t u32() {
    const uint32_t high = u16();
    return high << 16 | u16();
  }
  // At most n.
  std::span<const uint8_t> bytes(size_t n) {
    const auto taken = rest_.first(std::min(n, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const uint8_t> rest_;
};

// A frame in memory of exactly its size, so that a sanitizer sees every access outside it.
class ExactFrame {
 public:
  ExactFrame(std::span<const uint8_t> bytes, uint32_t headroom, uint32_t cut_by = 0)
      : memory_(new uint8_t[bytes.size() + headroom]),
        frame{memory_.get() + headroom, uint32_t(bytes.size()), uint32_t(bytes.size()) + cut_by, headroom, {}, false} {
    std::copy(bytes.begin(), bytes.end(), frame.bytes);
  }

 private:
  std::unique_ptr<uint8_t[]> memory_;

 public:
  Frame frame;
};

// Ends the process, with the reason, so that the input is kept.
[[noreturn]] inline void broken(const char* claim, int line) {
  std::fprintf(stderr, "claim broken (line %d): %s\n", line, claim);
  std::abort();
}
#define CLAIM(condition) \
  do {                   \
    if (!(condition)) ::weir::fuzz::broken(#condition, __LINE__); \
  } while (false)

}  // namespace weir::fuzz
