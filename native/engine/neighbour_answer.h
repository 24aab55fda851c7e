// Answers to who asks for the link address of a virtual address, which belongs to no host of the segment: ARP (RFC 826) and
// neighbour discovery (RFC 4861).
#pragma once
#include <cstdint>

#include "engine/frame.h"
#include "engine/packet.h"
#include "engine/program.h"

namespace weir {

inline constexpr uint32_t kLongestNeighbourAnswer = 14 + 2 * 4 + 40 + 32;

// Writes the answer, with its Ethernet header and the question's VLAN tags, to `out` (kLongestNeighbourAnswer bytes) and returns
// its length; 0 where the frame asks for no virtual address.
uint32_t answer_neighbour(const Program& program, const Packet& packet, const Frame& frame, uint8_t* out);

}  // namespace weir
