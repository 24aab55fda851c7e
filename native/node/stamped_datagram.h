// A stamped datagram as a service instance sees it, and how it turns round: addresses swapped, one service done.
#pragma once
#include <cstdint>

#include "engine/frame.h"
#include "engine/stamp.h"

namespace weir {

enum class NodeDrop : uint8_t { malformed, checksum, si_zero, queue_full, function_drop, function_error, too_big, count_ };
inline constexpr const char* kNodeDropNames[] = {"malformed", "checksum", "si_zero", "queue_full", "function_drop", "function_error", "too_big"};

struct DatagramView {
  Encapsulation encapsulation = Encapsulation::nsh;
  uint32_t stamp = 0;  // bytes of the stamp
  uint32_t code = 0, spi = 0;
  uint8_t si = 0;
};

// Reads the stamp at `p`. False when malformed.
bool read_datagram(const uint8_t* p, uint32_t length, Encapsulation encapsulation, DatagramView& view);

// Swaps the outer MAC and IP addresses of a frame in place. UDP ports stay as they came.
void swap_outer(uint8_t* frame);

// Turns a whole frame (one datagram or a UDP_L4 batch of them) round in place: every datagram's service index goes down by
// one, the checksum stays right. On a drop nothing may be sent.
// Returns count_ when fine, else the reason.
NodeDrop turn_round(Frame& frame, const StampedFrame& outer, uint32_t& datagrams);

}  // namespace weir
