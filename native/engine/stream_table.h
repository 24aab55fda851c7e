// Streams and their life: found, opened by the classifier, repointed when their path moves, pinned to instances, closed.
// Everything that changes a Flow goes through here, so that the counts of streams by path and instance stay right.
//
// One for each worker, over the one flow table that all share. A packet of a known stream takes no lock here.
#pragma once
#include <cstdint>

#include "engine/classifier.h"
#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/flow_table.h"
#include "engine/packet.h"
#include "engine/program_cell.h"

namespace weir {

class StreamTable {
 public:
  // `alone`: no other worker has this flow table.
  StreamTable(FlowTable& table, ProgramUse& program, Counters& counters, bool alone)
      : table_(table), program_(program), counters_(counters), alone_(alone) {}

  // The live stream, or null. Takes up a newer program if the stream was decided by one.
  Flow* find(const FlowKey& key, uint64_t hash);
  // As find(), but never misses one that is there.
  Flow* find_surely(const FlowKey& key, uint64_t hash);
  // True if the stream is over, and a packet with its tuple begins a new one.
  bool over(const Flow* flow, const Packet& packet, uint64_t now_ns) const;
  // Opens a stream, in the place of `over` if that is not null. Another worker may have been faster: then it is that one's
  // stream. Null when the table has no entry to give.
  Flow* open(const Packet& packet, const FlowKey& key, uint64_t hash, uint64_t now_ns, Flow* over);
  // Streams of policies that were changed with `existing: move` are decided again, once for each such change. What counts from
  // then on is the stream that it returns: one with another decision is another entry.
  Flow* up_to_date(Flow* flow, uint64_t hash) {
    return program_->moves.empty() || shared_load(flow->decided_by) == program_.sequence() ? flow : decide_again(flow, hash);
  }
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
    bool final = false;  // the instance keeps the packet
    uint32_t hop = 0;  // hop_row()
  };
  Stop next_stop(Flow* flow, const Route& route, const Path& path, uint32_t step, bool answer);

  // Where on its way a packet of this stream is while it is with an instance: which says nothing of it itself.
  struct Visit {
    const Path* path = nullptr;  // the stream's, or one that it was moved away from meanwhile; null: it is not with the instance
    uint32_t position = 0;       // in chain order
  };
  Visit visit(const Flow* flow, const Instance& instance) const;
  // A packet has come back from an instance that the primary of its service directed the stream to: from now on it goes there at once.
  void learn(Flow* flow, const Path& path, uint32_t position, const Instance& from);
  // Takes notice of what an instance may have made itself: a RST, in the name of one end.
  void reset(Flow* flow, bool answer) { note_tcp(flow, Tcp::kRst, answer, false); }

  Decision describe(const Tuple& tuple, uint64_t now_ns) const;
  FlowView view(const Flow& flow, uint64_t now_ns) const;
  FlowTable& table() { return table_; }
  const FlowTable& table() const { return table_; }

 private:
  // Of the packet that opens a stream. Where it is the answer of an instance that ends a chain, seen before what it answers, the
  // tuple is turned round; also where it opens no connection (`midstream`), no policy has it, and one of the other direction puts it on a chain.
  Classification decide(Tuple& tuple, bool midstream) const;
  static void note_tcp(Flow* flow, uint8_t flags, bool answer, bool data);
  uint16_t pick(const Flow* flow, const Path& path, uint32_t position) const { return pick(flow->key, flow->code, path, position); }
  uint16_t pick(const FlowKey& key, uint32_t code, const Path& path, uint32_t position) const;
  // Whether a pinned instance still serves streams of this path.
  bool serves(const Flow* flow, const Instance& instance, const Path& path, uint32_t position) const;
  // These want the table's lock.
  void set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance);
  Flow* enter(const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns, const Classification& decision, const Path* path,
              const uint16_t* chosen);
  void close(Flow* flow);

  // Moves (stream_moves.cc). Packets may be on their way on a path that their stream has left: the instances of services that the
  // new path lacks stay known behind the route's own pins, uncounted, as far as there is room.
  struct FormerPins {
    uint32_t count = 0;
    uint16_t pins[kMaxHops];
  };
  void follow(Flow* flow, const Path& from, const Path& to);
  Flow* decide_again(Flow* flow, uint64_t hash);
  // How many pins a stream may have, its former ones included, that goes from one of these paths (null: none) to the other. Those past
  // the inline ones are there only if the program has a path that needs them.
  static uint32_t places(const Path* from, const Path* to);
  uint16_t known_pin(const Flow* flow, const Route& route, uint32_t places, uint16_t service) const;
  FormerPins pins_not_on(const Flow* flow, const Route& route, uint32_t places, const Path* to) const;
  void set_former(Flow* flow, Route& route, uint32_t places, const FormerPins& former);
  uint16_t repin(Flow* flow, const Path& own, uint32_t position, uint16_t refused);

  FlowTable& table_;
  ProgramUse& program_;
  Counters& counters_;
  const bool alone_;
  uint64_t scanned_ns_ = 0;
  uint32_t scan_at_ = 0;
};

}  // namespace weir
