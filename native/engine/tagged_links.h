// The (tenant, VLAN ids) pairs of streams that go to routers. A router takes the tags off, so its frames tell only addresses and
// ports, and each pair that may be meant has to be tried. Shared by all workers; reading takes no lock.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>

namespace weir {

class TaggedLinks {
 public:
  static constexpr uint32_t kMost = 256;

  // Remembers a pair. False when there is no room for another.
  bool remember(uint32_t tenant, uint32_t vlans) {
    const uint64_t pair = uint64_t(tenant) << 24 | vlans;
    if (known(pair, size())) return true;
    std::lock_guard lock(lock_);
    const uint32_t n = size();
    if (known(pair, n)) return true;
    if (n == kMost) return false;
    pairs_[n].store(pair, std::memory_order_relaxed);
    size_.store(n + 1, std::memory_order_release);
    return true;
  }

  uint32_t size() const { return size_.load(std::memory_order_acquire); }
  uint32_t tenant(uint32_t i) const { return uint32_t(pairs_[i].load(std::memory_order_relaxed) >> 24); }
  uint32_t vlans(uint32_t i) const { return uint32_t(pairs_[i].load(std::memory_order_relaxed)) & 0xffffff; }

 private:
  bool known(uint64_t pair, uint32_t n) const {
    for (uint32_t i = 0; i < n; i++)
      if (pairs_[i].load(std::memory_order_relaxed) == pair) return true;
    return false;
  }

  std::mutex lock_;
  std::atomic<uint32_t> size_{0};
  std::atomic<uint64_t> pairs_[kMost] = {};
};

}  // namespace weir
