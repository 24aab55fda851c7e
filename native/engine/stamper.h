// Puts a stamp before each inner packet of one captured frame and sends them to one instance: several as one frame of
// datagrams (UDP_L4) where the underlay's port carries such, so that a super-frame crosses the kernel as one.
#pragma once
#include <array>
#include <cstdint>

#include "engine/counters.h"
#include "engine/frame.h"
#include "engine/segment.h"
#include "engine/stamp.h"

namespace weir {

class Stamper final : public SegmentReceiver {
 public:
  Stamper(Sink& sink, const Tunnel& tunnel, const Stamp& stamp, uint8_t inner_version, Traffic& stamped, Traffic& sent)
      : sink_(sink), tunnel_(tunnel), stamp_(stamp), stamped_(stamped), sent_(sent), inner_version_(inner_version),
        batches_(sink.carries(kUnderlayPort, Offload::kGsoUdp)) {}

  // `header` has room for outer headers and stamp before it.
  void segment(uint8_t* header, uint32_t header_length, Piece payload) override;
  // Sends what is still held back; call once behind the last segment.
  void finish();

 private:
  Sink& sink_;
  const Tunnel& tunnel_;
  const Stamp& stamp_;
  Traffic& stamped_;
  Traffic& sent_;
  const uint8_t inner_version_;
  const bool batches_;

  uint32_t datagrams_ = 0, pieces_in_use_ = 0;
  uint32_t size_ = 0, last_ = 0, total_ = 0;  // bytes of the first datagram, of the latest, of all
  std::array<Piece, 2 * kBatchDatagrams> pieces_;
};

}  // namespace weir
