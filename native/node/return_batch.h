// Datagrams on their way back from a service function: those of one stream that follow one another go as one frame of
// datagrams (UDP_L4), as they came.
#pragma once
#include <array>
#include <cstdint>
#include <utility>

#include "engine/frame.h"
#include "engine/stamp.h"
#include "port/port.h"

namespace weir {

class ReturnBatch {
 public:
  // `outer`: the outer headers that the datagram came behind, already turned round; written to when the frame is sent. They, the
  // stamp and the packet must last until finish() and the port's flush().
  void add(Port& port, uint8_t* outer, uint32_t outer_length, Piece stamp, Piece packet);
  void finish(Port& port);
  // Of what was sent since the last call.
  uint64_t take_frames() { return std::exchange(frames_, 0); }
  uint64_t take_bytes() { return std::exchange(bytes_, 0); }

 private:
  bool continues(const uint8_t* outer, uint32_t outer_length, uint32_t length) const;

  uint8_t* outer_ = nullptr;
  uint32_t outer_length_ = 0, datagrams_ = 0, size_ = 0, last_ = 0, total_ = 0, pieces_in_use_ = 0;
  uint64_t frames_ = 0, bytes_ = 0;
  std::array<Piece, 1 + 2 * kBatchDatagrams> pieces_;
};

}  // namespace weir
