// Streams and their life: found, opened by the classifier, repointed when their path moves, pinned to instances, closed.
// Everything that changes a Flow goes through here, so that the counts of streams by path and instance stay right.
#pragma once
#include <cstdint>

#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/flow_table.h"
#include "engine/packet.h"
#include "engine/program.h"

namespace weir {

class StreamTable {
 public:
  StreamTable(uint32_t capacity, Counters& counters) : table_(capacity), counters_(counters) {}

  Flow* find(const FlowKey& key, uint64_t hash) { return table_.find(key, hash); }
  Flow* open(const Program& program, const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns);
  // Follows `moved_to`, keeping the instances of services that both paths have.
  void follow_move(const Program& program, Flow* flow);
  // Takes notice of one packet.
  void seen(Flow* flow, const Packet& packet, bool answer, uint64_t now_ns);
  void close(Flow* flow);
  // Closes up to `budget` streams whose idle time is over.
  void expire(uint64_t now_ns, const IdleTimeouts& idle, uint32_t budget);

  // Where a packet of this stream goes next on `path`, from `step` (0-based visit in its direction of travel) on.
  struct Stop {
    enum class Kind : uint8_t { instance, end, drop } kind;
    const Instance* instance = nullptr;
    uint32_t step = 0;
    DropReason reason = DropReason::no_instance;
  };
  Stop next_stop(const Program& program, Flow* flow, const Path& path, uint32_t step, bool answer);

  Decision describe(const Program& program, const Tuple& tuple, uint64_t now_ns) const;
  FlowView view(const Program& program, const Flow& flow, uint64_t now_ns) const;
  FlowTable& table() { return table_; }
  const FlowTable& table() const { return table_; }

 private:
  uint16_t pick(const Program& program, const Flow* flow, uint16_t service) const;
  void pin(Flow* flow, uint32_t position, uint16_t instance);
  void unpin_all(Flow* flow);

  FlowTable table_;
  Counters& counters_;
};

}  // namespace weir
