// Target: what comes back from the underlay, NSH and Geneve: outer headers, stamps, and the node's side of both. What is read
// of a stamp and written again reads the same.
#include <cstring>

#include "engine/probes.h"
#include "engine/stamp.h"
#include "fuzz_input.h"
#include "node/stamped_datagram.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

void read_and_advance(uint8_t* datagram, uint32_t length, Encapsulation encapsulation) {
  const ReturnedStamp stamp = read_returned_stamp(datagram, length, encapsulation);
  CLAIM(stamp.length <= length || stamp.refused);
  is_probe(datagram, length, encapsulation);
  if (stamp.refused || stamp.step == 0 || stamp.step >= kNshFirstIndex) return;
  if (encapsulation == Encapsulation::geneve && stamp.length != kGeneveStamp) return;
  advance_stamp(datagram, encapsulation, stamp, stamp.spi, stamp.step);
  if (encapsulation == Encapsulation::nsh) {
    DatagramView view;
    CLAIM(read_datagram(datagram, length, encapsulation, view));
    CLAIM(view.code == stamp.code && view.spi == stamp.spi && view.stamp == stamp.length);
    CLAIM(view.si == kNshFirstIndex - stamp.step);
    return;
  }
  const ReturnedStamp again = read_returned_stamp(datagram, length, encapsulation);
  CLAIM(!again.refused);
  CLAIM(again.code == stamp.code && again.spi == stamp.spi && again.tenant == stamp.tenant && again.vlans == stamp.vlans);
  CLAIM(again.step == stamp.step + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  const uint8_t kind = input.u8();
  const uint16_t gso_size = kind & 4 ? input.u16() : 0;
  const ExactFrame copy(input.bytes(input.left()), 0, kind & 2 ? 1 : 0);
  Frame frame = copy.frame;
  if (gso_size) frame.offload = {Offload::kNeedsChecksum, Offload::kGsoUdp, 0, gso_size, 34, 6};
  if (kind & 1) {  // only what lies behind the outer headers
    const auto encapsulation = kind & 8 ? Encapsulation::geneve : Encapsulation::nsh;
    read_and_advance(frame.bytes, frame.length, encapsulation);
    return 0;
  }
  const StampedFrame outer = read_outer(frame);
  if (outer.result != StampedFrame::Result::ok) return 0;
  CLAIM(outer.udp + kUdpHeader == outer.payload);
  CLAIM(outer.payload <= outer.payload_end);
  CLAIM(outer.payload_end <= frame.length);
  outer_checksum_ok(frame, outer);
  is_probe_frame(frame, outer);
  uint32_t datagrams = 0;
  turn_round(frame, outer, datagrams);
  CLAIM(datagrams <= outer.payload_end - outer.payload + 1);
  const uint32_t length = outer.payload_end - outer.payload;
  read_and_advance(frame.bytes + outer.payload, length, outer.encapsulation);
  return 0;
}
