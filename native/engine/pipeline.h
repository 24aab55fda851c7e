// The packet's way: a frame from a capture is parsed, its stream found or opened, stamped and sent to its first instance; a
// frame from the underlay is checked, and sent to the next instance or, unstamped, out of the other side of the capture.
//
// Pure but for the state it is given: it opens nothing, reads no clock and allocates nothing.
#pragma once
#include <cstdint>

#include "engine/counters.h"
#include "engine/flow_table.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/packet.h"
#include "engine/program.h"
#include "engine/stamp.h"
#include "engine/stream_table.h"

namespace weir {

class Pipeline {
 public:
  Pipeline(Counters& counters, StreamTable& streams, FragmentTable& fragments)
      : counters_(counters), streams_(streams), fragments_(fragments) {}

  void process(const Program& program, uint64_t now_ns, PortId port, Frame& frame, Sink& sink);

 private:
  // Everything about the frame at hand that several steps need.
  struct Context {
    const Program& program;
    uint64_t now_ns;
    PortId port;
    Frame& frame;
    Sink& sink;
  };

  // pipeline_capture.cc
  void from_capture(Context& c);
  void cross(Context& c, CrossReason reason);
  void steer(Context& c, Packet& packet);
  void release_held(Context& c, const FragmentKey& key);
  void answer_too_big(Context& c, const Packet& packet, uint32_t mtu);

  // pipeline_return.cc
  void from_underlay(Context& c);
  void from_instance(Context& c, const StampedFrame& outer, uint8_t* datagram, uint32_t length, bool whole_frame);
  void deliver(Context& c, const Flow& flow, const Packet& packet, bool ethernet, Direction travel);

  // Finds the ports of a later fragment; true if the tuple is complete now.
  bool complete_fragment(Context& c, Packet& packet, FragmentKey& key);

  Counters& counters_;
  StreamTable& streams_;
  FragmentTable& fragments_;
  uint64_t icmp_allowance_ns_ = 0;  // token bucket of answer_too_big(), in time
};

// Longest inner IP packet that fits the underlay behind this encapsulation, `l2` being its Ethernet header and tags.
uint32_t inner_limit(const Program& program, Encapsulation encapsulation, bool outer_ipv6, uint32_t l2);

}  // namespace weir
