#include "engine/flow_table.h"

#include <bit>
#include <cstring>

namespace weir {

FlowTable::FlowTable(uint32_t capacity, bool touched)
    : capacity_(capacity),
      mask_(std::bit_ceil(uint64_t(capacity) * 2) - 1),
      index_(mask_ + 1, touched),
      entries_(size_t(capacity) + kSpare + 1, touched),
      far_pins_((size_t(capacity) + kSpare + 1) * kFarPins) {}

Flow* FlowTable::find(const FlowKey& key, uint64_t hash) {
  const uint64_t tag = hash >> 32;
  for (uint64_t at = hash & mask_;; at = (at + 1) & mask_) {
    const uint64_t entry = slot(at);
    if (entry == 0) return nullptr;
    if (entry >> 32 == tag) {
      Flow* flow = &entries_[uint32_t(entry)];
      if (flow->key == key) return flow;
    }
  }
}

void FlowTable::prefetch_entry(uint64_t hash) const {
  const uint64_t tag = hash >> 32;
  for (uint64_t at = hash & mask_;; at = (at + 1) & mask_) {
    const uint64_t entry = slot(at);
    if (entry == 0) return;
    if (entry >> 32 != tag) continue;
    const Flow* flow = &entries_[uint32_t(entry)];
    __builtin_prefetch(flow, 1);
    __builtin_prefetch(&flow->pins, 1);
    return;
  }
}

Flow* FlowTable::allocate(const FlowKey& key, uint64_t hash, uint64_t now_ns) {
  // A few at a time: each is a line that is not in the cache.
  constexpr int kReclaimed = 64;
  if (!free_ && !retired_.empty()) {
    const uint64_t reached = epochs_.reached();
    for (int i = 0; i < kReclaimed && !retired_.empty() && retired_.front().epoch <= reached; i++) {
      const uint32_t n = retired_.front().number;
      shared_store(entries_[n].life, Flow::Life::free);
      entries_[n].policy = free_;
      free_ = n;
      retired_.pop_front();
    }
  }
  if (!free_ && high_water_ < capacity_ + kSpare) {
    shared_store(high_water_, high_water_ + 1);
    free_ = high_water_;
    entries_[free_].policy = 0;
  }
  if (!free_) return nullptr;
  const uint32_t n = free_;
  free_ = entries_[n].policy;
  // All of it but `life`, which the search for idle streams reads at any time.
  Flow* flow = &entries_[n];
  flow->version = 0;
  flow->tcp = TcpState::none;
  flow->hops = 0;
  flow->pins = ~uint64_t(0);
  flow->path = flow->decided_by = 0;
  flow->packets = flow->bytes = 0;
  flow->tags = 0;
  std::memset(flow->macs, 0, sizeof flow->macs);
  flow->key = key;
  flow->code = uint32_t(hash);
  flow->last_seen_ns = now_ns;
  return flow;
}

void FlowTable::publish(Flow* flow, uint64_t hash) {
  std::atomic_ref<Flow::Life>(flow->life).store(Flow::Life::live, std::memory_order_release);
  uint64_t at = hash & mask_;
  while (index_[at] != 0) at = (at + 1) & mask_;
  set_slot(at, (hash >> 32) << 32 | number(flow));
  shared_store(size_, size_ + 1);
}

void FlowTable::remove(Flow* flow) {
  const uint32_t n = number(flow);
  // The home slot takes its bits from the code, which is the hash's low half; tables have fewer than 2^32 slots.
  uint64_t at = flow->code & mask_;
  while (uint32_t(index_[at]) != n) at = (at + 1) & mask_;
  for (uint64_t next = at;;) {
    next = (next + 1) & mask_;
    if (index_[next] == 0) break;
    const uint64_t home = entries_[uint32_t(index_[next])].code & mask_;
    // Move it back unless its home lies cyclically in (at, next].
    if (((next - home) & mask_) >= ((next - at) & mask_)) {
      set_slot(at, index_[next]);
      at = next;
    }
  }
  set_slot(at, 0);
  shared_store(flow->life, Flow::Life::retired);
  retired_.push_back({n, epochs_.retire()});
  shared_store(size_, size_ - 1);
}

Flow* FlowTable::idlest() {
  // Redis' way: near enough to the true order, without keeping one. Tables of up to kSample streams get the exact answer.
  constexpr uint32_t kSample = 32, kLooks = 512;
  Flow* best = nullptr;
  uint32_t found = 0;
  for (uint32_t looks = 0; !best || (found < kSample && looks < kLooks); looks++) {
    evict_at_ = evict_at_ >= high_water_ ? 1 : evict_at_ + 1;
    Flow* flow = &entries_[evict_at_];
    if (flow->life != Flow::Life::live) continue;
    found++;
    if (!best || shared_load(flow->last_seen_ns) < shared_load(best->last_seen_ns)) best = flow;
  }
  return best;
}

Route FlowTable::route(const Flow* flow) const {
  for (;;) {
    const uint32_t before = std::atomic_ref<uint32_t>(const_cast<uint32_t&>(flow->version)).load(std::memory_order_acquire);
    const Route r{shared_load(flow->pins), shared_load(flow->path), shared_load(flow->decided_by), shared_load(flow->hops)};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!(before & 1) && shared_load(flow->version) == before) return r;
  }
}

uint16_t FlowTable::pin(const Flow* flow, uint32_t position) const {
  if (position < Route::kInlinePins) return route(flow).pin(position);
  // One value by itself: a route that changes while it is read gives the old or the new one.
  return uint16_t(shared_load(const_cast<FlowTable*>(this)->far_pin(number(flow), position)) - 1);
}

void FlowTable::set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance) {
  if (position < Route::kInlinePins) return route.set_pin(position, instance);
  shared_store(far_pin(number(flow), position), uint16_t(instance + 1));
}

Flow* FlowTable::at(uint32_t number) {
  Flow* flow = &entries_[number];
  if (std::atomic_ref<Flow::Life>(flow->life).load(std::memory_order_acquire) != Flow::Life::live) return nullptr;
  return flow;
}

}  // namespace weir
