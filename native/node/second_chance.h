// What a data-plane unit of an appliance does with a packet of a stream that it does not know: passes it on to the units that had
// the stream by earlier maps, so that dispatchers with different unit lists break no stream. See docs/appliance.md.
//
// A packet under way between units has the version of the map by which it was passed on in its stamp's last reserved byte; it goes
// from older maps to newer ones only, so it can't go in a circle. Its outer source stays the dispatcher's.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/counters.h"
#include "node/stamped_datagram.h"
#include "node/unit_maps.h"
#include "port/port.h"

namespace weir {

struct ChanceCounters {
  Traffic passed_on;         // datagrams to other units; bytes of whole frames
  Traffic taken_up;          // datagrams from other units that this one served
  Counter opened;            // streams that became this unit's
  Counter opened_midstream;  // of them: TCP whose first packet here opens no connection
  Counter forgotten;         // streams whose place was needed for others
};

class SecondChance {
 public:
  static constexpr uint32_t kBuckets = 1u << 17, kWays = 8;
  static constexpr uint32_t kIdleTcp = 350, kIdleOther = 120, kIdleClosed = 5;  // seconds, as functions keep their streams
  static constexpr uint32_t kMark = 7;                                          // offset in either stamp

  enum class Way : uint8_t {
    here,  // this unit serves it; the frame has been changed so that its answer goes to the dispatcher
    sent,  // it has been passed on, by the port
    refused,
  };
  struct Outcome {
    Way way;
    NodeDrop reason = NodeDrop::count_;  // of `refused`
  };
  SecondChance();
  // Of a frame whose outer headers are good. All its datagrams are of one stream, as dispatchers send them. `now_s`: any clock.
  Outcome take(Frame& frame, const StampedFrame& outer, const UnitMaps& maps, uint32_t now_s, Port& port);
  void forget_all();
  const ChanceCounters& counters() const { return counters_; }

  struct Live {
    uint32_t streams = 0;
    uint32_t elsewhere = 0;         // of them: no map has them here
    std::vector<uint32_t> by_map;  // of them: by the newest map that has them here
  };
  // From any thread.
  Live live(const UnitMaps& maps, uint32_t now_s) const;

  static constexpr uint8_t mark_of(uint32_t version) { return uint8_t(1 + version % 255); }

 private:
  struct Entry {
    uint32_t code = 0;
    uint32_t seen_s = 0;  // 24 bits
    uint8_t state = 0;    // 0: free
  };
  static Entry unpack(uint64_t word) { return {uint32_t(word >> 32), uint32_t(word >> 8) & 0xffffff, uint8_t(word)}; }
  static bool live(const Entry& entry, uint32_t now_s);
  uint64_t* find(uint32_t code, uint32_t now_s);
  uint64_t* remember(uint32_t code, uint32_t now_s);
  // The stream's packets of this frame are served here.
  void see(uint64_t* place, uint32_t code, uint32_t now_s, const Frame& frame, const StampedFrame& outer, uint32_t size, bool opens);
  Outcome serve(Frame& frame, const StampedFrame& outer, const NodePlace& dispatcher, uint32_t size, uint32_t datagrams, bool marked);

  std::vector<uint64_t> entries_;  // one word each, so that another thread can read them
  ChanceCounters counters_;
};

}  // namespace weir
