// The packet's way: a frame from a capture is parsed, its stream found or opened, stamped and sent to its first instance; a
// frame from the underlay is checked, and sent to the next instance or, unstamped, out of the other side of the capture.
//
// Pure but for the state it is given: it opens nothing, reads no clock and allocates nothing.
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "engine/counters.h"
#include "engine/datagram_batch.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/packet.h"
#include "engine/program_cell.h"
#include "engine/segment_join.h"
#include "engine/stamp.h"
#include "engine/stream_table.h"

namespace weir {

class Pipeline {
 public:
  // Frames that are read together before any of them is handled, so that their streams' entries are in the cache by then.
  static constexpr uint32_t kGroup = 32;

  Pipeline(ProgramUse& program, Counters& counters, StreamTable& streams, FragmentTable& fragments)
      : program_(program), counters_(counters), streams_(streams), fragments_(fragments), batch_(counters) {}

  // At most kGroup frames.
  void process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink);

 private:
  // Everything about the frame at hand that several steps need.
  struct Context {
    uint64_t now_ns;
    PortId port;
    Frame& frame;
    Sink& sink;
  };

  // What can be read of a frame before its turn comes. From the underlay: of its first datagram.
  struct Prepared {
    StampedFrame outer;
    ReturnedStamp stamp;
    Packet packet;
    FlowKey key;
    uint64_t hash = 0;
    bool indexed = false;

    void index(const Program& program) {
      key = flow_key(packet.tuple);
      hash = affinity_hash(program.affinity_key, key, Affinity::five_tuple);
      indexed = true;
    }
  };

  // One datagram that an instance sent back, judged.
  struct Returned {
    uint8_t* datagram = nullptr;
    uint32_t length = 0;
    ReturnedStamp stamp;
    Packet packet;
    Flow* flow = nullptr;
    bool answer = false;
    StreamTable::Stop stop;
  };

  // pipeline_capture.cc
  void prepare_capture(Context& c, Prepared& prepared);
  void from_capture(Context& c, Prepared& prepared);
  void cross(Context& c, CrossReason reason);
  void steer(Context& c, Prepared& prepared);
  void release_held(Context& c, const FragmentKey& key);
  void answer_too_big(Context& c, const Packet& packet, uint32_t mtu);

  // pipeline_return.cc
  void prepare_return(Context& c, Prepared& prepared);
  void from_underlay(Context& c, Prepared& prepared);
  bool read_datagram(const StampedFrame& outer, uint8_t* datagram, uint32_t length, ReturnedStamp& stamp, Packet& packet);
  // Gives up (false) after it has counted the reason.
  bool judge(Context& c, const StampedFrame& outer, Prepared& prepared, const Returned* before, Returned& now);
  Flow* stream_of(Context& c, Prepared& prepared);
  void forward(Context& c, const StampedFrame& outer, const Returned& returned);

  // pipeline_deliver.cc
  void deliver(Context& c, const Returned& returned);
  void finish_delivery(Sink& sink);

  // Finds the ports of a later fragment; true if the tuple is complete now.
  bool complete_fragment(Context& c, Packet& packet, FragmentKey& key);

  ProgramUse& program_;
  Counters& counters_;
  StreamTable& streams_;
  FragmentTable& fragments_;
  std::array<Prepared, kGroup> prepared_;
  // What frames of the group at hand have become so far and may still be continued by the next one.
  DatagramBatch batch_;
  SegmentJoin join_;
  PortId join_port_ = 0;
  uint64_t icmp_allowance_ns_ = 0;  // token bucket of answer_too_big(), in time
};

// Longest inner IP packet that fits the underlay behind this encapsulation, `l2` being its Ethernet header and tags.
uint32_t inner_limit(const Program& program, Encapsulation encapsulation, bool outer_ipv6, uint32_t l2);

}  // namespace weir
