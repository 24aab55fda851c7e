// Streams that nobody has answered yet, in the order in which they came: the first to go when the table is full, so that a flood of
// made-up senders takes its own entries and not those of streams that are alive. Wants the table's lock.
//
// A ring of entry numbers. What has been answered meanwhile, or is over, is found out when its number comes up. A ring that is full
// forgets its oldest number: that stream is then given up like any other.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace weir {

class Newcomers {
 public:
  static constexpr uint32_t kMost = 1 << 18;

  explicit Newcomers(uint32_t capacity) : ring_(std::bit_ceil(std::clamp<uint32_t>(capacity, 1, kMost))) {}

  bool empty() const { return head_ == tail_; }
  void add(uint32_t number) {
    if (tail_ - head_ == ring_.size()) head_++;
    ring_[tail_++ & (ring_.size() - 1)] = number;
  }
  // The oldest. There is one.
  uint32_t take() { return ring_[head_++ & (ring_.size() - 1)]; }
  void clear() { head_ = tail_; }

 private:
  std::vector<uint32_t> ring_;
  uint64_t head_ = 0, tail_ = 0;
};

}  // namespace weir
