// Counters of one pipeline: written by its thread only, readable from any (relaxed atomics, so no lock and no torn value).
// Tables by id are zeroed lazily by the kernel: ids that are never used cost no memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "engine/program.h"
#include "engine/reasons.h"

namespace weir {

class Counter {
 public:
  void add(uint64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void operator++(int) { add(1); }
  void operator--(int) { add(uint64_t(-1)); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct Traffic {
  Counter packets, bytes;
  void add(uint64_t n) { packets++; bytes.add(n); }
  void add(uint64_t frames, uint64_t n) { packets.add(frames); bytes.add(n); }
};

struct StreamTraffic {
  Counter packets, bytes, streams;
};

struct InstanceTraffic {
  Counter streams;  // active
  Traffic sent, received;
};

template <typename Row>
class CounterTable {
 public:
  explicit CounterTable(uint32_t rows) : rows_(rows), table_(static_cast<Row*>(std::calloc(rows, sizeof(Row))), &std::free) {
    static_assert(std::is_trivially_destructible_v<Row>);
  }
  Row& operator[](uint32_t id) { return table_.get()[id < rows_ ? id : 0]; }
  const Row& operator[](uint32_t id) const { return table_.get()[id < rows_ ? id : 0]; }

 private:
  uint32_t rows_;
  std::unique_ptr<Row, void (*)(void*)> table_;
};

struct Counters {
  Traffic captured, returned, stamped, delivered, crossed;
  Counter ignored;  // underlay frames that are not for us
  Counter crossed_by[size_t(CrossReason::count_)];
  Counter dropped[size_t(DropReason::count_)];
  Counter streams_active, streams_opened, streams_expired, streams_evicted;
  CounterTable<StreamTraffic> policies{kMaxPolicyIds};
  CounterTable<StreamTraffic> chains{kMaxChainIds};
  CounterTable<Counter> path_streams{kMaxPathIds};
  CounterTable<InstanceTraffic> instances{kMaxInstanceIds};

  void drop(DropReason reason) { dropped[size_t(reason)]++; }
};

}  // namespace weir
