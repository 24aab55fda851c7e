// Joins consecutive TCP segments of one stream into one super-frame again, as generic receive offload does, so that the
// kernel and the receiver handle them once.
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "engine/frame.h"
#include "engine/packet.h"
#include "engine/stamp.h"

namespace weir {

class SegmentJoin {
 public:
  // Begins with a packet whose bytes may be changed until the frame is sent. `link` is its Ethernet header and tags.
  void start(const Packet& packet, const void* stream, Piece link);
  bool empty() const { return count_ == 0; }
  // Takes the next packet in if it continues the ones before it in every respect that a receiver could tell. A segment whose
  // checksum is wrong is never taken in: the joined frame gets a new one, and that would hide the damage.
  bool append(const Packet& packet, const void* stream);
  // The frame: its pieces stay valid until start(). Returns its offload header, none for a single packet.
  Offload finish(std::span<const Piece>& pieces);
  uint32_t packets() const { return count_; }
  // Of the packets as they came, each with its own headers.
  uint32_t bytes() const { return bytes_; }
  void clear() { count_ = 0; }

 private:
  Packet first_;
  const void* stream_ = nullptr;  // whose segments they are; only compared
  uint32_t count_ = 0, pieces_in_use_ = 0;
  uint32_t size_ = 0;      // payload of every segment but the last
  uint32_t last_ = 0;      // payload of the latest
  uint32_t payload_ = 0;   // of all
  uint32_t bytes_ = 0;
  uint32_t link_length_ = 0;
  uint8_t last_flags_ = 0;
  bool first_checked_ = false;
  std::array<Piece, 2 + kBatchDatagrams> pieces_;
};

}  // namespace weir
