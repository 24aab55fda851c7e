#include "engine/flow_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/flow_file.h"

namespace weir {

FlowTable::FlowTable(uint32_t capacity, bool touched, FlowFile* file)
    : capacity_(capacity),
      mask_(std::bit_ceil(uint64_t(capacity) * 2) - 1),
      file_(file),
      newcomers_(capacity),
      index_(mask_ + 1, touched),
      entries_(file ? BigArray<Flow>(file->rows().entries) : BigArray<Flow>(flow_rows(capacity), touched)),
      far_pins_(file ? BigArray<uint16_t>(file->rows().far_pins) : BigArray<uint16_t>(flow_rows(capacity) * kFarPins)),
      has_far_pins_(file && file->far_reserved(false)) {}

Flow* FlowTable::find(const FlowKey& key, uint64_t hash) {
  const uint32_t code = uint32_t(hash);
  for (uint64_t at = code & mask_;; at = (at + 1) & mask_) {
    const uint64_t entry = slot(at);
    if (entry == 0) return nullptr;
    if (entry >> 32 == code) {
      Flow* flow = &entries_[uint32_t(entry)];
      if (flow->key == key) return flow;
    }
  }
}

void FlowTable::prefetch_entry(uint64_t hash) const {
  const uint32_t code = uint32_t(hash);
  for (uint64_t at = code & mask_;; at = (at + 1) & mask_) {
    const uint64_t entry = slot(at);
    if (entry == 0) return;
    if (entry >> 32 != code) continue;
    const Flow* flow = &entries_[uint32_t(entry)];
    __builtin_prefetch(flow, 1);
    __builtin_prefetch(&flow->pins, 1);
    return;
  }
}

void FlowTable::reclaim() {
  // A few at a time: each is a line that is not in the cache.
  constexpr int kReclaimed = 64;
  if (retired_.empty()) return;
  const uint64_t reached = epochs_.reached();
  for (int i = 0; i < kReclaimed && !retired_.empty() && retired_.front().epoch <= reached; i++) {
    const uint32_t n = retired_.front().number;
    shared_store(entries_[n].life, Flow::Life::free);
    entries_[n].policy = free_;
    free_ = n;
    retired_.pop_front();
  }
}

Flow* FlowTable::allocate(const FlowKey& key, uint64_t hash, uint64_t now_ns) {
  if (!free_) reclaim();
  if (!free_ && high_water_ < capacity_ + kSpareFlows) {
    free_ = high_water_ + 1;
    entries_[free_].policy = 0;
    // What stands in rows that a file had before is not known.
    shared_store(entries_[free_].life, Flow::Life::free);
    shared_store(high_water_, free_);
    if (file_) file_->set_high_water(high_water_);
  }
  if (!free_) return nullptr;
  const uint32_t n = free_;
  free_ = entries_[n].policy;
  // Should the process die here, this is no stream: that it is none has to be seen before anything else of it.
  std::atomic_thread_fence(std::memory_order_release);
  // All of it but `life`, which the search for idle streams reads at any time.
  Flow* flow = &entries_[n];
  flow->version = 0;
  flow->tcp = TcpState::none;
  flow->hops = 0;
  flow->pins = ~uint64_t(0);
  if (has_far_pins_) std::fill_n(&far_pin(n, Route::kInlinePins), kFarPins, uint16_t(0));
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
  uint64_t at = uint32_t(hash) & mask_;
  while (index_[at] != 0) at = (at + 1) & mask_;
  set_slot(at, hash << 32 | number(flow));
  shared_store(size_, size_ + 1);
  if (!answered(*flow)) newcomers_.add(number(flow));
  if (size_ > capacity_ / 2) settle_newcomers();
}

// Lets go of numbers that have come to nothing: two for each that is added, so that most of those left are what they say.
void FlowTable::settle_newcomers() {
  constexpr int kLooks = 2;
  for (int i = 0; i < kLooks && !newcomers_.empty(); i++) {
    const uint32_t n = newcomers_.take();
    if (entries_[n].life == Flow::Life::live && !answered(entries_[n])) newcomers_.add(n);
  }
}

void FlowTable::remove(Flow* flow) {
  const uint32_t n = number(flow);
  uint64_t at = flow->code & mask_;
  while (uint32_t(index_[at]) != n) at = (at + 1) & mask_;
  for (uint64_t next = at;;) {
    next = (next + 1) & mask_;
    if (index_[next] == 0) break;
    const uint64_t home = index_[next] >> 32 & mask_;
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

Flow* FlowTable::victim() {
  constexpr int kLooks = 64, kCandidates = 8;
  Flow* best = nullptr;
  for (int looks = 0, candidates = 0; looks < kLooks && candidates < kCandidates && !newcomers_.empty(); looks++) {
    Flow* flow = &entries_[newcomers_.take()];
    if (flow == best || flow->life != Flow::Life::live || answered(*flow)) continue;
    candidates++;
    if (best && shared_load(best->last_seen_ns) < shared_load(flow->last_seen_ns)) std::swap(best, flow);
    if (best) newcomers_.add(number(best));
    best = flow;
  }
  return best ? best : idlest();
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

uint16_t FlowTable::pin(const Flow* flow, const Route& route, uint32_t position) const {
  if (position < Route::kInlinePins) return route.pin(position);
  // One value by itself: a route that changes while it is read gives the old or the new one.
  return uint16_t(shared_load(const_cast<FlowTable*>(this)->far_pin(number(flow), position)) - 1);
}

void FlowTable::set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance) {
  if (position < Route::kInlinePins) return route.set_pin(position, instance);
  has_far_pins_ = true;
  shared_store(far_pin(number(flow), position), uint16_t(instance + 1));
}

std::string FlowTable::reserve(uint32_t hops) { return file_ && hops > Route::kInlinePins ? file_->reserve_far_pins() : std::string(); }

void FlowTable::forget_all() {
  for (uint64_t at = 0; high_water_ && at <= mask_; at++)
    if (index_[at]) index_[at] = 0;
  shared_store(size_, 0u);
  free_ = evict_at_ = 0;
  newcomers_.clear();
  retired_.clear();
}

FlowRows FlowTable::rows() { return {entries_.data(), far_pins_.data(), capacity_, high_water_}; }

bool FlowTable::add_found(uint32_t number, uint64_t hash) {
  if (std::atomic_ref<uint32_t>(size_).fetch_add(1, std::memory_order_relaxed) < capacity_) {
    const uint64_t code = uint32_t(hash);
    for (uint64_t at = code & mask_;;) {
      uint64_t entry = slot(at);
      if (entry == 0 && std::atomic_ref<uint64_t>(index_[at]).compare_exchange_strong(entry, code << 32 | number)) return true;
      if (entry == 0) continue;
      if (entry >> 32 == code && entries_[uint32_t(entry)].key == entries_[number].key) break;
      at = (at + 1) & mask_;
    }
  }
  std::atomic_ref<uint32_t>(size_).fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void FlowTable::finish(uint32_t high_water, uint32_t free) {
  shared_store(high_water_, high_water);
  if (file_) file_->set_high_water(high_water);
  free_ = free;
}

Flow* FlowTable::at(uint32_t number) {
  Flow* flow = &entries_[number];
  if (std::atomic_ref<Flow::Life>(flow->life).load(std::memory_order_acquire) != Flow::Life::live) return nullptr;
  return flow;
}

}  // namespace weir
