#include "engine/fragment_table.h"

#include <algorithm>
#include <bit>

namespace weir {

FragmentTable::FragmentTable(uint32_t datagrams)
    : rows_(std::bit_ceil(std::max(datagrams, kWays))),
      places_(kHeldFrames),
      memory_(new uint8_t[size_t(kHeldFrames) * kHeldBytes]) {}

uint64_t FragmentTable::bucket(const FragmentKey& key) const {
  // Unkeyed on purpose: a flood of chosen keys costs its own bucket's eight rows, nothing more.
  uint64_t words[sizeof(FragmentKey) / 8];
  std::memcpy(words, &key, sizeof words);
  uint64_t h = 0x9e3779b97f4a7c15;
  for (const uint64_t w : words) h = std::rotl((h ^ w) * 0xff51afd7ed558ccd, 29);
  return (h >> 7) & (rows_.size() - 1) & ~uint64_t(kWays - 1);
}

void FragmentTable::remember(const FragmentKey& key, FragmentPorts ports, uint64_t now_ns, bool first) {
  std::lock_guard lock(lock_);
  Row* const rows = &rows_[bucket(key)];
  Row* best = rows;
  for (uint32_t i = 0; i < kWays; i++) {
    if (rows[i].used && rows[i].key == key) {
      if (first && now_ns < rows[i].seen_ns + kLifetimeNs) return;
      best = &rows[i];
      break;
    }
    // A free row beats any; among used ones the oldest.
    if (best->used && (!rows[i].used || rows[i].seen_ns < best->seen_ns)) best = &rows[i];
  }
  *best = {key, ports, now_ns, true};
}

bool FragmentTable::find(const FragmentKey& key, uint64_t now_ns, FragmentPorts& ports) const {
  std::lock_guard lock(lock_);
  const Row* row = &rows_[bucket(key)];
  for (uint32_t i = 0; i < kWays; i++) {
    // Who saw it first may be another worker, whose clock is a moment ahead.
    if (!row[i].used || row[i].key != key || now_ns >= row[i].seen_ns + kLifetimeNs) continue;
    ports = row[i].ports;
    return true;
  }
  return false;
}

bool FragmentTable::hold(const FragmentKey& key, PortId port, const Frame& frame, uint64_t now_ns) {
  std::lock_guard lock(lock_);
  if (held_ == kHeldFrames || frame.length > kHeldBytes) return false;
  for (uint32_t i = 0; i < kHeldFrames; i++) {
    if (places_[i].length) continue;
    places_[i] = {key, now_ns, port, frame.length, frame.offload_unknown};
    std::memcpy(memory_.get() + size_t(i) * kHeldBytes, frame.bytes, frame.length);
    held_++;
    return true;
  }
  return false;
}

bool FragmentTable::take(const FragmentKey& key, Held& held, uint8_t* to) {
  if (!this->held()) return false;
  std::lock_guard lock(lock_);
  Held* first = nullptr;
  for (Held& place : places_)
    if (place.length && place.key == key && (!first || place.since_ns < first->since_ns)) first = &place;
  if (!first) return false;
  held = *first;
  std::memcpy(to + kHeldHeadroom, memory_.get() + size_t(first - places_.data()) * kHeldBytes, first->length);
  first->length = 0;
  held_--;
  return true;
}

uint32_t FragmentTable::expire(uint64_t now_ns) {
  if (!held()) return 0;
  std::lock_guard lock(lock_);
  uint32_t gone = 0;
  for (Held& place : places_) {
    if (!place.length || now_ns < place.since_ns + kHoldNs) continue;
    place.length = 0;
    held_--;
    gone++;
  }
  return gone;
}

}  // namespace weir
