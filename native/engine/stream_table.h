// Streams and their life: found, opened by the classifier, repointed when their path moves, pinned to instances, closed.
// Everything that changes a Flow goes through here, so that the counts of streams by path and instance stay right.
//
// One for each worker, over the one flow table that all share. A packet of a known stream takes no lock here.
#pragma once
#include <cstdint>

#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/flow_table.h"
#include "engine/packet.h"
#include "engine/program_cell.h"

namespace weir {

class StreamTable {
 public:
  StreamTable(FlowTable& table, ProgramUse& program, Counters& counters) : table_(table), program_(program), counters_(counters) {}

  // The live stream, or null. Takes up a newer program if the stream was decided by one.
  Flow* find(const FlowKey& key, uint64_t hash);
  // As find(), but never misses one that is there.
  Flow* find_surely(const FlowKey& key, uint64_t hash);
  // True if the stream is over, and a packet with its tuple begins a new one.
  bool over(const Flow* flow, const Packet& packet, uint64_t now_ns) const;
  // Opens a stream, in the place of `over` if that is not null. Another worker may have been faster: then it is that one's
  // stream. Null when the table has no entry to give.
  Flow* open(const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns, Flow* over);
  // The stream's route; follows `moved_to`, keeping the instances of services that both paths have.
  Route route(Flow* flow);
  // Takes notice of one packet.
  void seen(Flow* flow, const Packet& packet, bool answer, uint64_t now_ns);
  // Looks at some entries and closes those whose idle time is over, so that each is looked at about once a second. True when
  // it is behind with that.
  bool expire(uint64_t now_ns);

  // Where a packet of this stream goes next on `path`, from `step` (0-based visit in its direction of travel) on.
  struct Stop {
    enum class Kind : uint8_t { instance, end, drop } kind = Kind::drop;
    const Instance* instance = nullptr;
    uint32_t step = 0;
    DropReason reason = DropReason::no_instance;
  };
  Stop next_stop(Flow* flow, const Route& route, const Path& path, uint32_t step, bool answer);

  Decision describe(const Tuple& tuple, uint64_t now_ns) const;
  FlowView view(const Flow& flow, uint64_t now_ns) const;
  FlowTable& table() { return table_; }
  const FlowTable& table() const { return table_; }

 private:
  uint16_t pick(const Flow* flow, uint16_t service) const;
  uint16_t pick(const FlowKey& key, uint32_t code, uint16_t service) const;
  // These want the table's lock.
  void set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance);
  void close(Flow* flow);
  void follow(Flow* flow, const Path& from, const Path& to);

  uint16_t repin(Flow* flow, const Path& own, uint32_t position, uint16_t refused, uint16_t service);

  FlowTable& table_;
  ProgramUse& program_;
  Counters& counters_;
  uint64_t scanned_ns_ = 0;
  uint32_t scan_at_ = 0;
};

}  // namespace weir
