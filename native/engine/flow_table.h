// Exact-match table of live streams, of fixed size, shared by all workers. Finding a stream takes no lock and touches one line
// of the index and the entry. Adding and removing take the table's lock; an entry taken out is used again only when every
// worker has passed a point at which it held none (Epochs).
#pragma once
#include <cstdint>
#include <deque>
#include <mutex>

#include "engine/big_array.h"
#include "engine/epochs.h"
#include "engine/flow.h"

namespace weir {

class FlowTable {
 public:
  // `touched`: take all memory at once, not as streams come.
  explicit FlowTable(uint32_t capacity, bool touched = false);

  uint32_t capacity() const { return capacity_; }
  uint32_t size() const { return shared_load(size_); }
  Epochs& epochs() { return epochs_; }

  // Without the lock a stream may be missed that is there (its index slot was just being moved), never a wrong one given.
  // With the lock the answer is exact.
  Flow* find(const FlowKey& key, uint64_t hash);
  const Flow* find(const FlowKey& key, uint64_t hash) const { return const_cast<FlowTable*>(this)->find(key, hash); }
  // Brings the index line, then the entry, into the cache.
  void prefetch_slot(uint64_t hash) const { __builtin_prefetch(&index_[hash & mask_]); }
  void prefetch_entry(uint64_t hash) const;

  std::mutex& lock() const { return lock_; }

  // The rest, but for reading routes and entries by number, wants the lock held.

  bool full() const { return size_ >= capacity_; }
  // An entry to fill in; publish() makes it found. Null when all that are out of the table may still be read by somebody.
  Flow* allocate(const FlowKey& key, uint64_t hash, uint64_t now_ns);
  void publish(Flow* flow, uint64_t hash);
  void remove(Flow* flow);
  // The stream to give up when the table is full: the idlest of some.
  Flow* idlest();

  // Consistent at any time, with or without the lock.
  Route route(const Flow* flow) const;
  // Pins by position in chain order; positions past the inline ones live in a table beside it that only long chains touch.
  uint16_t pin(const Flow* flow, uint32_t position) const;
  // Calls change(Route&, far pins) and stores what it made of them as one.
  template <typename Change>
  void change_route(Flow* flow, Change&& change) {
    Route r{flow->pins, flow->path, flow->decided_by, flow->hops};
    shared_store(flow->version, flow->version + 1);
    std::atomic_thread_fence(std::memory_order_release);
    change(r);
    shared_store(flow->pins, r.pins);
    shared_store(flow->path, r.path);
    shared_store(flow->decided_by, r.decided_by);
    shared_store(flow->hops, r.hops);
    std::atomic_ref<uint32_t>(flow->version).store(flow->version + 1, std::memory_order_release);
  }
  // Within change_route().
  void set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance);

  // By entry number, 1 … high_water(); null where there is no live stream.
  Flow* at(uint32_t number);
  const Flow* at(uint32_t number) const { return const_cast<FlowTable*>(this)->at(number); }
  uint32_t high_water() const { return shared_load(high_water_); }

 private:
  static constexpr uint32_t kFarPins = kMaxHops - Route::kInlinePins;
  // Entries beyond the capacity: what may be waiting for the slowest worker while new streams open.
  static constexpr uint32_t kSpare = 1 << 16;
  struct Retired {
    uint32_t number;
    uint64_t epoch;
  };
  uint32_t number(const Flow* flow) const { return uint32_t(flow - entries_.data()); }
  uint64_t slot(uint64_t at) const { return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(index_[at])).load(std::memory_order_acquire); }
  void set_slot(uint64_t at, uint64_t value) { std::atomic_ref<uint64_t>(index_[at]).store(value, std::memory_order_release); }
  uint16_t& far_pin(uint32_t number, uint32_t position) { return far_pins_[size_t(number) * kFarPins + position - Route::kInlinePins]; }

  const uint32_t capacity_;
  const uint64_t mask_;
  mutable std::mutex lock_;
  Epochs epochs_;
  uint32_t size_ = 0, high_water_ = 0, free_ = 0, evict_at_ = 0;
  std::deque<Retired> retired_;
  // Slot: hash's high half | entry number; 0 is empty. Linear probing, load at most one half, deletion by shifting back.
  BigArray<uint64_t> index_;
  BigArray<Flow> entries_;
  BigArray<uint16_t> far_pins_;  // instance id plus one, so that untouched memory reads as "none"
};

}  // namespace weir
