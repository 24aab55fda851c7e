#include "node/function_queue.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace weir {

uint64_t steady_ns() {
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

Slab::Slab() : memory_(new uint8_t[kMemory]()) {
  packets_.reserve(kMostPackets);
  outer.reserve(kMostPackets * 128);
}

void Slab::add(const DatagramView& view, std::span<const uint8_t> outer_headers, std::span<const uint8_t> stamp, std::span<const uint8_t> packet, uint32_t cut_to) {
  FunctionPacket p;
  p.cut_to = cut_to;
  p.view = view;
  p.outer_at = uint32_t(outer.size());
  p.outer_length = uint32_t(outer_headers.size() + stamp.size());
  outer.insert(outer.end(), outer_headers.begin(), outer_headers.end());
  outer.insert(outer.end(), stamp.begin(), stamp.end());
  p.at = used_;
  p.length = uint32_t(packet.size());
  std::memcpy(bytes() + used_, packet.data(), packet.size());
  used_ += p.length;
  const Row row{kBytesAt + p.at, p.length, view.code, view.spi << 8 | view.si,
                (view.encapsulation == Encapsulation::geneve ? kGeneve : 0) | (view.ethernet ? kEthernet : 0)};
  std::memcpy(memory() + packets_.size() * sizeof(Row), &row, sizeof row);
  memory()[kVerdictsAt + packets_.size()] = uint8_t(FunctionVerdict::none);
  packets_.push_back(p);
}

void Slab::replace(uint32_t i, std::span<const uint8_t> bytes) {
  FunctionPacket& p = packets_[i];
  p.new_at = uint32_t(replaced.size());
  p.new_length = uint32_t(bytes.size());
  replaced.insert(replaced.end(), bytes.begin(), bytes.end());
}

FunctionVerdict Slab::verdict(uint32_t i) const {
  const uint8_t v = memory_[kVerdictsAt + i];
  if (v == uint8_t(FunctionVerdict::replace)) return packets_[i].new_length ? FunctionVerdict::replace : FunctionVerdict::none;
  return v < uint8_t(FunctionVerdict::replace) ? FunctionVerdict(v) : FunctionVerdict::none;
}

void Slab::clear() {
  packets_.clear();
  outer.clear();
  replaced.clear();
  used_ = 0;
}

FunctionQueue::FunctionQueue(std::function<void()> wake_function, std::function<void()> wake_node)
    : wake_function_(std::move(wake_function)), wake_node_(std::move(wake_node)) {
  for (uint32_t i = 0; i < kSlabs; i++) {
    slabs_[i] = std::make_unique<Slab>();
    free_.push_back(kSlabs - 1 - i);
  }
  ready_.reserve(kSlabs);
  taken_.reserve(kSlabs);
  done_.reserve(kSlabs);
}

void FunctionQueue::make_ready() {
  ready_.push_back({uint32_t(filling_), steady_ns()});
  filling_ = -1;
  if (woken_) return;
  woken_ = true;
  wake_function_();
}

Slab* FunctionQueue::filling(uint32_t packets, uint32_t bytes) {
  std::lock_guard lock(mutex_);
  if (closed_) return nullptr;
  if (filling_ >= 0) {
    if (slabs_[size_t(filling_)]->has_room(packets, bytes)) return slabs_[size_t(filling_)].get();
    if (slabs_[size_t(filling_)]->packets().empty()) return nullptr;  // never fits
    make_ready();
  }
  if (free_.empty()) return nullptr;
  filling_ = int(free_.back());
  free_.pop_back();
  Slab* slab = slabs_[size_t(filling_)].get();
  return slab->has_room(packets, bytes) ? slab : nullptr;
}

void FunctionQueue::hand_on() {
  std::lock_guard lock(mutex_);
  if (closed_ || filling_ < 0 || slabs_[size_t(filling_)]->packets().empty()) return;
  if (ready_.size() + working_ < kAhead) make_ready();
}

Slab* FunctionQueue::answered() {
  std::lock_guard lock(mutex_);
  if (done_.empty()) return nullptr;
  Slab* slab = slabs_[done_.front()].get();
  done_.erase(done_.begin());
  return slab;
}

void FunctionQueue::release(Slab* slab) {
  slab->clear();
  const auto at = std::find_if(slabs_.begin(), slabs_.end(), [&](const auto& own) { return own.get() == slab; });
  std::lock_guard lock(mutex_);
  free_.push_back(uint32_t(at - slabs_.begin()));
}

int FunctionQueue::take() {
  std::lock_guard lock(mutex_);
  if (closed_ || working_) return -1;
  if (ready_.empty()) {
    woken_ = false;
    return -1;
  }
  taken_.push_back(ready_.front());
  ready_.erase(ready_.begin());
  working_ = true;
  return int(taken_.back().slab);
}

void FunctionQueue::hold() {
  std::lock_guard lock(mutex_);
  working_ = false;
}

Slab* FunctionQueue::in_hand(uint32_t slab) {
  std::lock_guard lock(mutex_);
  const bool taken = std::any_of(taken_.begin(), taken_.end(), [&](const Waiting& w) { return w.slab == slab; });
  return taken && !closed_ ? slabs_[slab].get() : nullptr;
}

bool FunctionQueue::give(uint32_t slab) {
  std::lock_guard lock(mutex_);
  const auto at = std::find_if(taken_.begin(), taken_.end(), [&](const Waiting& w) { return w.slab == slab; });
  if (at == taken_.end() || closed_) return false;
  if (at + 1 == taken_.end()) working_ = false;
  taken_.erase(at);
  done_.push_back(slab);
  wake_node_();
  return true;
}

void FunctionQueue::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
}

uint64_t FunctionQueue::unanswered() const {
  std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const Waiting& w : taken_) sum += slabs_[w.slab]->packets().size();
  for (const Waiting& w : ready_) sum += slabs_[w.slab]->packets().size();
  if (filling_ >= 0) sum += slabs_[size_t(filling_)]->packets().size();
  return sum;
}

uint64_t FunctionQueue::waiting_ns(uint64_t now_ns) const {
  std::lock_guard lock(mutex_);
  const Waiting* oldest = !taken_.empty() ? &taken_.front() : ready_.empty() ? nullptr : &ready_.front();
  return oldest && now_ns > oldest->since_ns ? now_ns - oldest->since_ns : 0;
}

}  // namespace weir
