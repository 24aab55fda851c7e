// How long something takes: counts by powers of two of nanoseconds. Written by one thread, readable from any.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "engine/counters.h"

namespace weir {

class Latency {
 public:
  // Bucket i counts what took at most 2^(kFirstBit + i) ns and more than the one before; the last has no upper end (over 1 s).
  static constexpr uint32_t kFirstBit = 8, kBuckets = 24;

  static uint32_t bucket_of(uint64_t ns) {
    if (ns <= (uint64_t(1) << kFirstBit)) return 0;
    const uint32_t i = uint32_t(std::bit_width(ns - 1)) - kFirstBit;
    return i < kBuckets ? i : kBuckets - 1;
  }

  void add(uint64_t ns) {
    buckets_[bucket_of(ns)]++;
    sum_ns_.add(ns);
  }
  uint64_t count(uint32_t bucket) const { return buckets_[bucket].get(); }
  uint64_t sum_ns() const { return sum_ns_.get(); }

 private:
  std::array<Counter, kBuckets> buckets_;
  Counter sum_ns_;
};

}  // namespace weir
