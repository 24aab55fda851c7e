// Exact-match table of live streams, of fixed size, shared by all workers. Finding a stream takes no lock and touches one line
// of the index and the entry. Adding and removing take the table's lock; an entry taken out is used again only when every
// worker has passed a point at which it held none (Epochs).
#pragma once
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "engine/big_array.h"
#include "engine/epochs.h"
#include "engine/flow.h"
#include "engine/flow_seal.h"
#include "engine/newcomers.h"

namespace weir {

class FlowFile;
struct FlowRows;

class FlowTable {
 public:
  // `touched`: take all memory at once, not as streams come. With a file its rows are the table's: what is in them already has
  // to be adopted (flow_adoption.h) before the first packet.
  explicit FlowTable(uint32_t capacity, bool touched = false, FlowFile* file = nullptr);

  uint32_t capacity() const { return capacity_; }
  uint32_t size() const { return shared_load(size_); }
  Epochs& epochs() { return epochs_; }

  // Of a hash only the low half counts, the affinity code: who has read that in a stamp need not hash.
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
  // Lets entries that were taken out, and that nobody can hold any more, be used again: more of them a call than a step of the expiry
  // takes out. Without that the list of them would grow with the streams that end, and moving a list of millions takes milliseconds.
  void reclaim();
  size_t retired() const { return retired_.size(); }
  // The stream to give up when the table is full: one that nobody has answered, else the idlest of some.
  Flow* victim();

  // Consistent at any time, with or without the lock.
  Route route(const Flow* flow) const;
  // Pins by position in chain order; positions past the inline ones live in a table beside it that only long chains touch.
  uint16_t pin(const Flow* flow, uint32_t position) const { return pin(flow, position < Route::kInlinePins ? route(flow) : Route{}, position); }
  uint16_t pin(const Flow* flow, const Route& route, uint32_t position) const;
  // Calls change(Route&, far pins) and stores what it made of them as one.
  template <typename Change>
  void change_route(Flow* flow, Change&& change) {
    Route r{flow->pins, flow->path, flow->decided_by, flow->hops};
    const uint32_t version = flow->version;
    shared_store(flow->version, version | 1);
    std::atomic_thread_fence(std::memory_order_release);
    change(r);
    shared_store(flow->pins, r.pins);
    shared_store(flow->path, r.path);
    shared_store(flow->decided_by, r.decided_by);
    shared_store(flow->hops, r.hops);
    const uint32_t sealed = uint32_t(flow_seal(*flow, far_pins_.data() + size_t(number(flow)) * kFarPins)) << 16 | ((version + 2) & 0xfffe);
    std::atomic_ref<uint32_t>(flow->version).store(sealed, std::memory_order_release);
  }
  // Within change_route().
  void set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance);

  // Makes sure of memory for the pins of long chains, before a program that has some is put in force. Returns what is wrong, or
  // an empty string.
  std::string reserve(uint32_t hops);
  FlowFile* file() const { return file_; }

  // Nothing is found any more, and no entry is in use: before add_found() and finish().
  void forget_all();
  FlowRows rows();
  // An entry that was in the rows before, at its own place: found from now on. By several threads at once. False where its key is
  // there already, or the table is full.
  bool add_found(uint32_t number, uint64_t hash);
  // The entries up to `high_water` that were not added are one list that begins with `free`, linked as free_ is.
  void finish(uint32_t high_water, uint32_t free);

  // By entry number, 1 … high_water(); null where there is no live stream.
  Flow* at(uint32_t number);
  const Flow* at(uint32_t number) const { return const_cast<FlowTable*>(this)->at(number); }
  uint32_t high_water() const { return shared_load(high_water_); }

 private:
  struct Retired {
    uint32_t number;
    uint64_t epoch;
  };
  Flow* idlest();
  void settle_newcomers();
  uint32_t number(const Flow* flow) const { return uint32_t(flow - entries_.data()); }
  uint64_t slot(uint64_t at) const { return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(index_[at])).load(std::memory_order_acquire); }
  void set_slot(uint64_t at, uint64_t value) { std::atomic_ref<uint64_t>(index_[at]).store(value, std::memory_order_release); }
  uint16_t& far_pin(uint32_t number, uint32_t position) { return far_pins_[size_t(number) * kFarPins + position - Route::kInlinePins]; }

  const uint32_t capacity_;
  const uint64_t mask_;
  FlowFile* const file_;
  mutable std::mutex lock_;
  Epochs epochs_;
  uint32_t size_ = 0, high_water_ = 0, free_ = 0, evict_at_ = 0;
  std::deque<Retired> retired_;
  Newcomers newcomers_;
  // Slot: affinity code | entry number; 0 is empty. The code's low bits say where a stream's search begins: tables have fewer than 2^32 slots.
  // Linear probing, load at most one half, deletion by shifting back.
  BigArray<uint64_t> index_;
  BigArray<Flow> entries_;
  BigArray<uint16_t> far_pins_;  // instance id plus one, so that untouched memory reads as "none"
  bool has_far_pins_;  // some row has them, or had: memory that no long chain needs stays untouched
};

}  // namespace weir
