#include "node/return_batch.h"

#include <cstring>

#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {

// The same addresses and ports; all of one size but the last.
bool ReturnBatch::continues(const uint8_t* outer, uint32_t outer_length, uint32_t length) const {
  if (outer_length != outer_length_ || datagrams_ >= kBatchDatagrams || last_ != size_ || length > size_ || total_ + length > kBatchPayload) return false;
  const bool ipv6 = load16(outer + 12) == kEtherIpv6;
  const uint32_t addresses = kEthernetHeader + (ipv6 ? 8 : 12);
  // From the addresses on up to the UDP ports there are only IPv4 options in between.
  return std::memcmp(outer, outer_, kEthernetHeader + 2) == 0 && std::memcmp(outer + addresses, outer_ + addresses, outer_length - addresses - 4) == 0;
}

void ReturnBatch::add(Port& port, uint8_t* outer, uint32_t outer_length, Piece stamp, Piece packet) {
  const uint32_t length = stamp.length + packet.length;
  if (datagrams_ && (!port.carries(Offload::kGsoUdp) || !continues(outer, outer_length, length))) finish(port);
  if (!datagrams_) {
    outer_ = outer;
    outer_length_ = outer_length;
    size_ = length;
    pieces_[0] = {outer, outer_length};
    pieces_in_use_ = 1;
  }
  pieces_[pieces_in_use_++] = stamp;
  pieces_[pieces_in_use_++] = packet;
  last_ = length;
  total_ += length;
  datagrams_++;
}

void ReturnBatch::finish(Port& port) {
  if (!datagrams_) return;
  uint8_t* ip = outer_ + kEthernetHeader;
  uint8_t* udp = outer_ + outer_length_ - kUdpHeader;
  const bool ipv6 = load16(outer_ + 12) == kEtherIpv6;
  const uint32_t udp_length = kUdpHeader + total_;
  store16(udp + 4, uint16_t(udp_length));
  store16(udp + 6, 0);
  if (ipv6) {
    store16(ip + 4, uint16_t(udp_length));
  } else {
    store16(ip + 2, uint16_t(udp - ip + udp_length));
    Ipv4::finish(ip);
  }
  const uint64_t pseudo = checksum_pseudo(ip + (ipv6 ? 8 : 12), ipv6 ? 32 : 8, kIpUdp, udp_length);
  Offload offload;
  if (datagrams_ > 1) {
    checksum_store(udp + 6, checksum_fold(pseudo));
    offload = batch_offload(uint32_t(udp - outer_), size_);
  } else if (ipv6) {
    // The stamp's length is even, so the packet continues the sum.
    uint64_t sum = checksum_add(udp, kUdpHeader, pseudo);
    for (uint32_t i = 1; i < pieces_in_use_; i++) sum = checksum_add(pieces_[i].bytes, pieces_[i].length, sum);
    const uint16_t checksum = uint16_t(~checksum_fold(sum));
    checksum_store(udp + 6, checksum ? checksum : 0xffff);
  }
  port.send({0, offload, {pieces_.data(), pieces_in_use_}});
  frames_ += datagrams_;
  bytes_ += uint64_t(datagrams_) * outer_length_ + total_;
  datagrams_ = size_ = last_ = total_ = 0;
}

}  // namespace weir
