// Stamped datagrams on their way to an instance. Those of one stream that follow one another go as one frame of datagrams
// (UDP_L4) where the underlay's port carries such: the kernel handles them as one, whether they were cut from a super-frame or
// came in frames of their own.
#pragma once
#include <array>
#include <cstdint>

#include "engine/counters.h"
#include "engine/frame.h"
#include "engine/stamp.h"

namespace weir {

class DatagramBatch {
 public:
  // Whose counters it moves: an instance id and a hop_row().
  struct Visit {
    uint16_t instance = 0;
    uint32_t hop = 0;
  };

  explicit DatagramBatch(Counters& counters) : counters_(counters) {}

  // `head` begins with the stamp, `payload` (may be empty) follows it; with `room` the bytes before `head` are free for the outer
  // headers. What `tunnel` points to, and the bytes, must last until finish().
  void add(Sink& sink, const Tunnel& tunnel, Visit visit, Piece head, bool room, Piece payload);
  // Emits what is held back.
  void finish(Sink& sink);

 private:
  bool continues(const Tunnel& tunnel, uint32_t length) const;

  Counters& counters_;
  Tunnel tunnel_{};
  Visit visit_;
  bool room_ = false;
  uint32_t datagrams_ = 0;
  uint32_t size_ = 0, last_ = 0, total_ = 0;  // bytes of the first datagram, of the latest, of all
  uint32_t pieces_in_use_ = 1;
  std::array<Piece, 1 + 2 * kBatchDatagrams> pieces_;  // the first is for outer headers that have no room before the datagram
};

}  // namespace weir
