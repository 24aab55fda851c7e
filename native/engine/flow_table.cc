#include "engine/flow_table.h"

#include <bit>
#include <new>

namespace weir {
namespace {

constexpr uint32_t kFarPins = kMaxHops - Flow::kInlinePins;

// calloc leaves zeroing to the kernel's fresh pages, so an empty table costs address space, not memory.
template <typename T>
std::unique_ptr<T, void (*)(void*)> zeroed(size_t n) {
  void* p = std::calloc(n, sizeof(T));
  if (!p) throw std::bad_alloc();
  return {static_cast<T*>(p), &std::free};
}

}  // namespace

FlowTable::FlowTable(uint32_t capacity)
    : capacity_(capacity),
      mask_(std::bit_ceil(uint64_t(capacity) * 2) - 1),
      index_(zeroed<uint64_t>(mask_ + 1)),
      entries_(zeroed<Flow>(size_t(capacity) + 1)),
      far_pins_(zeroed<uint16_t>((size_t(capacity) + 1) * kFarPins)) {}

Flow* FlowTable::find(const FlowKey& key, uint64_t hash) {
  const uint64_t tag = hash >> 32;
  for (uint64_t slot = hash & mask_;; slot = (slot + 1) & mask_) {
    const uint64_t entry = index_.get()[slot];
    if (entry == 0) return nullptr;
    if (entry >> 32 == tag) {
      Flow* flow = &entries_.get()[uint32_t(entry)];
      if (flow->key == key) return flow;
    }
  }
}

Flow* FlowTable::insert(const FlowKey& key, uint64_t hash, uint64_t now_ns) {
  uint32_t n = free_;
  if (n) {
    free_ = entries_.get()[n].newer;
  } else {
    n = ++high_water_;
  }
  Flow* flow = new (&entries_.get()[n]) Flow();
  flow->key = key;
  flow->code = uint32_t(hash);
  flow->in_use = 1;
  flow->last_seen_ns = now_ns;
  link_newest(flow, IdleClass::other, now_ns);
  uint64_t slot = hash & mask_;
  while (index_.get()[slot] != 0) slot = (slot + 1) & mask_;
  index_.get()[slot] = (hash >> 32) << 32 | n;
  size_++;
  return flow;
}

void FlowTable::erase(Flow* flow) {
  const uint32_t n = number(flow);
  uint64_t* index = index_.get();
  // The home slot takes its bits from the code, which is the hash's low half; tables have fewer than 2^32 slots.
  uint64_t slot = flow->code & mask_;
  while (uint32_t(index[slot]) != n) slot = (slot + 1) & mask_;
  for (uint64_t next = slot;;) {
    next = (next + 1) & mask_;
    if (index[next] == 0) break;
    const uint64_t home = entries_.get()[uint32_t(index[next])].code & mask_;
    // Move it back unless its home lies cyclically in (slot, next].
    if (((next - home) & mask_) >= ((next - slot) & mask_)) {
      index[slot] = index[next];
      slot = next;
    }
  }
  index[slot] = 0;
  unlink(flow);
  flow->in_use = 0;
  flow->newer = free_;
  free_ = n;
  size_--;
}

void FlowTable::unlink(Flow* flow) {
  List& list = lists_[size_t(flow->idle)];
  Flow* entries = entries_.get();
  (flow->older ? entries[flow->older].newer : list.oldest) = flow->newer;
  (flow->newer ? entries[flow->newer].older : list.newest) = flow->older;
}

void FlowTable::link_newest(Flow* flow, IdleClass idle, uint64_t now_ns) {
  List& list = lists_[size_t(idle)];
  flow->idle = idle;
  flow->listed_at = uint32_t(now_ns >> kListTickShift);
  flow->older = list.newest;
  flow->newer = 0;
  (list.newest ? entries_.get()[list.newest].newer : list.oldest) = number(flow);
  list.newest = number(flow);
}

void FlowTable::touch(Flow* flow, IdleClass idle, uint64_t now_ns) {
  flow->last_seen_ns = now_ns;
  // Relinking costs two foreign cache lines, so a busy stream is moved once a tick, not at every packet.
  if (flow->idle == idle && flow->listed_at == uint32_t(now_ns >> kListTickShift)) return;
  unlink(flow);
  link_newest(flow, idle, now_ns);
}

Flow* FlowTable::idlest() {
  Flow* best = nullptr;
  for (List& list : lists_) {
    Flow* flow = oldest_of(list);
    if (flow && (!best || flow->last_seen_ns < best->last_seen_ns)) best = flow;
  }
  return best;
}

Flow* FlowTable::expired(uint64_t now_ns, const IdleTimeouts& idle) {
  for (size_t i = 0; i < size_t(IdleClass::count_); i++) {
    Flow* flow = oldest_of(lists_[i]);
    if (flow && now_ns - flow->last_seen_ns >= timeout(IdleClass(i), idle)) return flow;
  }
  return nullptr;
}

uint16_t FlowTable::pin(const Flow* flow, uint32_t position) const {
  if (position < Flow::kInlinePins) return flow->pins[position];
  // Stored plus one, so that the kernel's zero pages read as "none".
  return uint16_t(far_pins_.get()[size_t(number(flow)) * kFarPins + position - Flow::kInlinePins] - 1);
}

void FlowTable::set_pin(Flow* flow, uint32_t position, uint16_t instance) {
  if (position < Flow::kInlinePins) {
    flow->pins[position] = instance;
  } else {
    far_pins_.get()[size_t(number(flow)) * kFarPins + position - Flow::kInlinePins] = uint16_t(instance + 1);
  }
}

}  // namespace weir
