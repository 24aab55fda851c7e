#include "node/stamped_datagram.h"

#include <algorithm>
#include <cstring>

#include "engine/probes.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {

bool read_datagram(const uint8_t* p, uint32_t length, Encapsulation encapsulation, DatagramView& view) {
  view.encapsulation = encapsulation;
  if (encapsulation == Encapsulation::nsh) {
    const auto stamp = read_nsh(p, length);
    if (!stamp) return false;
    view = {encapsulation, stamp->length, stamp->code, stamp->spi, stamp->si, stamp->ttl, stamp->next_protocol == kNshProtocolEthernet};
  } else {
    const auto stamp = read_geneve(p, length);
    if (!stamp) return false;
    view = {encapsulation, stamp->length, stamp->cookie, uint32_t(stamp->attachment >> 16) & 0xffffff, uint8_t(stamp->attachment >> 8), 0, false};
  }
  return true;
}

bool is_probe_frame(const Frame& frame, const StampedFrame& outer) {
  return frame.offload.gso() != Offload::kGsoUdp && is_probe(frame.bytes + outer.payload, outer.payload_end - outer.payload, outer.encapsulation);
}

namespace {

template <size_t n>
void swap_neighbours(uint8_t* p) {
  uint8_t first[n];
  std::memcpy(first, p, n);
  std::memmove(p, p + n, n);
  std::memcpy(p + n, first, n);
}

}  // namespace

void swap_outer(uint8_t* frame) {
  swap_neighbours<6>(frame);
  uint8_t* ip = frame + kEthernetHeader;
  if (load16(frame + 12) == kEtherIpv4) {
    swap_neighbours<4>(ip + 12);
  } else {
    swap_neighbours<16>(ip + 8);
  }
}

void redirect_outer(uint8_t* frame, const Mac& from_mac, const Address& from, const Mac& to_mac, const Address& to) {
  std::memcpy(frame, to_mac.bytes.data(), 6);
  std::memcpy(frame + 6, from_mac.bytes.data(), 6);
  uint8_t* ip = frame + kEthernetHeader;
  constexpr uint8_t kTtl = 64;
  if (load16(frame + 12) == kEtherIpv4) {
    ip[8] = kTtl;
    std::memcpy(ip + 12, from.ipv4(), 4);
    std::memcpy(ip + 16, to.ipv4(), 4);
  } else {
    ip[7] = kTtl;
    std::memcpy(ip + 8, from.bytes.data(), 16);
    std::memcpy(ip + 24, to.bytes.data(), 16);
  }
}

void finish_outer(Frame& frame, const StampedFrame& outer) {
  uint8_t* ip = frame.bytes + kEthernetHeader;
  uint8_t* udp = frame.bytes + outer.udp;
  const bool ipv6 = load16(frame.bytes + 12) == kEtherIpv6;
  if (!ipv6) Ipv4::finish(ip);
  const uint32_t length = kUdpHeader + (outer.payload_end - outer.payload);
  const uint64_t pseudo = checksum_pseudo(ip + (ipv6 ? 8 : 12), ipv6 ? 32 : 8, kIpUdp, length);
  if (frame.offload.needs_checksum()) {
    checksum_store(udp + 6, checksum_fold(pseudo));
  } else if (load16(udp + 6) != 0) {
    store16(udp + 6, 0);
    const uint16_t checksum = uint16_t(~checksum_fold(checksum_add(udp, length, pseudo)));
    checksum_store(udp + 6, checksum ? checksum : 0xffff);
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
