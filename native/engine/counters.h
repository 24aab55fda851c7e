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
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  void reset() { value_.store(0, std::memory_order_relaxed); }
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
  Counter unreachable;  // ICMP errors about what was sent to it
  Counter told_mtu;     // the last time that a router said that its way carries less than it is held to: microseconds << 16 | MTU
  Traffic delivered;  // inner packets that end here
  Counter placed;     // streams that were placed here, ever
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

// A position on a chain, in chain order.
inline constexpr uint32_t hop_row(uint32_t chain, uint32_t position) { return chain * kMaxHops + position; }

// Ids beyond them count in row 0.
struct CounterRows {
  uint32_t policies = kMaxPolicyIds, chains = kMaxChainIds, paths = kMaxPathIds, instances = kMaxInstanceIds;
};

struct Counters {
  explicit Counters(const CounterRows& rows = {})
      : policies(rows.policies), chains(rows.chains), chains_delivered(rows.chains), path_streams(rows.paths), instances(rows.instances), hops(rows.chains * kMaxHops) {}

  Traffic captured, returned, stamped, proxied, delivered, crossed;
  Traffic handed_over;  // inner packets that ended at an instance
  Counter neighbour_answers;
  Counter cut;             // packets that others were cut into, the first of each not counted
  Counter probes_answered;
  Counter ignored;  // underlay frames that are not for us
  // Of stamped datagrams that left in fragments, or came back so; none of these is a packet of its own in came() and went().
  Counter fragmented, fragments_sent, fragments_received, reassembled;
  Counter crossed_by[size_t(CrossReason::count_)];
  Counter dropped[size_t(DropReason::count_)];
  Counter streams_active, streams_opened, streams_expired, streams_evicted;
  CounterTable<StreamTraffic> policies;
  CounterTable<StreamTraffic> chains;
  CounterTable<Traffic> chains_delivered;
  CounterTable<Counter> path_streams;
  CounterTable<InstanceTraffic> instances;
  CounterTable<Traffic> hops;  // by hop_row()

  void hand_over(uint32_t chain, uint16_t instance, uint64_t packets, uint64_t bytes) {
    handed_over.add(packets, bytes);
    chains_delivered[chain].add(packets, bytes);
    instances[instance].delivered.add(packets, bytes);
  }
  void drop(DropReason reason) { dropped[size_t(reason)]++; }

  // Every packet that comes in, and every one made by cutting another, is in exactly one of these or held (a fragment that waits
  // for its first one).
  uint64_t came() const { return captured.packets.get() + returned.packets.get() + cut.get(); }
  uint64_t went() const {
    uint64_t n = crossed.packets.get() + stamped.packets.get() + proxied.packets.get() + delivered.packets.get() + neighbour_answers.get() + probes_answered.get();
    for (const Counter& c : dropped) n += c.get();
    return n;
  }
};

}  // namespace weir
