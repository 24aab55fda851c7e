// Tells when nobody can still be reading an entry that was taken out of the flow table: quiescent-state-based reclamation
// (McKenney and Slingwine, 1998). Readers pay one load and one store a group of packets, and no lock.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

namespace weir {

inline constexpr uint32_t kMaxWorkers = 8;

class Epochs {
 public:
  static constexpr uint64_t kAway = ~uint64_t(0);

  // By a reader: it holds no entry now, and may take hold of some until the next call.
  void pass(uint32_t reader) {
    std::atomic<uint64_t>& seen = readers_[reader].seen;
    const bool was_away = seen.load(std::memory_order_relaxed) == kAway;
    seen.store(now_.load(std::memory_order_acquire), std::memory_order_release);
    // Who comes back must be seen to be back before it reads anything.
    if (was_away) std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  // By a reader: it holds no entry and takes hold of none until pass().
  void leave(uint32_t reader) { readers_[reader].seen.store(kAway, std::memory_order_release); }

  // By whoever took an entry out: the value that reached() has to give before the entry may be used again.
  uint64_t retire() { return now_.fetch_add(1, std::memory_order_seq_cst) + 1; }
  uint64_t reached() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    uint64_t least = kAway;
    for (const Reader& reader : readers_) {
      const uint64_t seen = reader.seen.load(std::memory_order_acquire);
      if (seen < least) least = seen;
    }
    return least;
  }

 private:
  struct alignas(64) Reader {
    std::atomic<uint64_t> seen{kAway};
  };
  alignas(64) std::atomic<uint64_t> now_{1};
  std::array<Reader, kMaxWorkers> readers_;
};

}  // namespace weir
