#include "node/stamped_datagram.h"

#include <algorithm>
#include <cstring>

#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir {

bool read_datagram(const uint8_t* p, uint32_t length, Encapsulation encapsulation, DatagramView& view) {
  view.encapsulation = encapsulation;
  if (encapsulation == Encapsulation::nsh) {
    const auto stamp = read_nsh(p, length);
    if (!stamp) return false;
    view = {encapsulation, stamp->length, stamp->code, stamp->spi, stamp->si};
  } else {
    const auto stamp = read_geneve(p, length);
    if (!stamp) return false;
    view = {encapsulation, stamp->length, stamp->cookie, uint32_t(stamp->attachment >> 16) & 0xffffff, uint8_t(stamp->attachment >> 8)};
  }
  return true;
}

void swap_outer(uint8_t* frame) {
  std::swap_ranges(frame, frame + 6, frame + 6);
  uint8_t* ip = frame + kEthernetHeader;
  if (load16(frame + 12) == kEtherIpv4) {
    std::swap_ranges(ip + 12, ip + 16, ip + 16);
  } else {
    std::swap_ranges(ip + 8, ip + 24, ip + 24);
  }
}

NodeDrop turn_round(Frame& frame, const StampedFrame& outer, uint32_t& datagrams) {
  const uint32_t length = outer.payload_end - outer.payload;
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
  const uint32_t size = batch ? frame.offload.gso_size : std::max(length, 1u);
  uint8_t* udp = frame.bytes + outer.udp;
  // A checksum that is there in full follows each change; a partial one covers only addresses and length, a zero one nothing.
  const bool covered = load16(udp + 6) != 0 && !frame.offload.needs_checksum();
  datagrams = 0;
  for (uint32_t done = 0; done < length || datagrams == 0; done += size) {
    uint8_t* p = frame.bytes + outer.payload + done;
    DatagramView view;
    if (!read_datagram(p, std::min(size, length - done), outer.encapsulation, view)) return NodeDrop::malformed;
    datagrams++;
    if (outer.encapsulation != Encapsulation::nsh) continue;
    if (view.si == 0) return NodeDrop::si_zero;
    uint8_t* word = p + kNshPathWord + 2;  // low byte of SPI, SI
    const uint16_t value = uint16_t(load16(word) - 1);
    if (covered) {
      checksum_replace16(udp + 6, word, value);
    } else {
      store16(word, value);
    }
  }
  swap_outer(frame.bytes);
  return NodeDrop::count_;
}

}  // namespace weir
