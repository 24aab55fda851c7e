// Makes inner packets that the underlay can carry out of what a packet socket delivers: completes partial checksums, cuts
// TCP and UDP super-frames to segments, splits TCP segments that are too long, fragments IPv4 where it may be fragmented.
#pragma once
#include <cstdint>
#include <functional>

#include "engine/frame.h"
#include "engine/packet.h"

namespace weir {

enum class SegmentResult : uint8_t { ok, too_big, unsupported, corrupt };

// What comes out, one at a time. `room` bytes before `header` are free for outer headers and stamp; the inner packet is
// header_length bytes at `header`, then `payload`.
class SegmentReceiver {
 public:
  virtual void segment(uint8_t* header, uint32_t header_length, Piece payload) = 0;

 protected:
  ~SegmentReceiver() = default;
};

struct SegmentRequest {
  uint32_t from;    // where the inner packet begins: 0 with its Ethernet header, packet.ip without
  uint32_t max_ip;  // longest IP packet that fits
  uint32_t room;    // bytes wanted before each header
  bool in_place;    // the frame's headroom may be used
};

SegmentResult segment(const Packet& packet, const Frame& frame, const SegmentRequest& request, Sink& sink, SegmentReceiver& receiver);

// Pseudo-header sum for the packet's transport with `length` bytes of header and payload.
uint64_t pseudo_sum(const Packet& packet, uint32_t length);

// Stores the transport checksum that offloading left to the hardware. False if the offload header points outside.
bool complete_checksum(const Packet& packet, const Frame& frame);

// After segment() has said that a packet is too big its checksum is complete: so that it may be asked again with another limit.
inline void leave_checksum(Frame& frame) {
  if (frame.offload.gso() == Offload::kGsoNone) frame.offload = {};
}

// Lowers the MSS option of a SYN to `mss` (RFC 9293 section 3.7.1); keeps the checksum right.
void clamp_mss(const Packet& packet, const Frame& frame, uint16_t mss);

}  // namespace weir
