#include "engine/cut_frame.h"

#include <cstring>

#include "engine/packet.h"
#include "engine/segment.h"

namespace weir {
namespace {

class Taker final : public SegmentReceiver {
 public:
  Taker(PortId port, const std::function<void(const OutFrame&)>& take) : port_(port), take_(take) {}
  void segment(uint8_t* header, uint32_t header_length, Piece payload) override {
    const Piece pieces[2] = {{header, header_length}, payload};
    take_({port_, {}, {pieces, payload.length ? 2u : 1u}});
  }

 private:
  PortId port_;
  const std::function<void(const OutFrame&)>& take_;
};

}  // namespace

bool cut_frame(const OutFrame& out, Sink& sink, const std::function<void(const OutFrame&)>& take) {
  const uint32_t length = out.length();
  if (length > Sink::kMaxScratch) return false;
  uint8_t* bytes = sink.scratch(length);
  uint32_t at = 0;
  for (const Piece& piece : out.pieces) {
    std::memcpy(bytes + at, piece.bytes, piece.length);
    at += piece.length;
  }
  Frame frame{bytes, length, length, 0, out.offload, false};
  const Packet packet = parse_frame(frame);
  if (packet.verdict != Packet::Verdict::steer) return false;
  Taker taker(out.port, take);
  return segment(packet, frame, {0, 65535, 0, true}, sink, taker) == SegmentResult::ok;
}

}  // namespace weir
