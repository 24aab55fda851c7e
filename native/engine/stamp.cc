#include "engine/stamp.h"

#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {

void write_outer(uint8_t* p, const Tunnel& tunnel, std::span<const Piece> payload) {
  uint32_t length = kUdpHeader;
  for (const Piece& piece : payload) length += piece.length;
  std::memcpy(p, tunnel.destination_mac->bytes.data(), 6);
  std::memcpy(p + 6, tunnel.source_mac->bytes.data(), 6);
  uint8_t* ip = p + kEthernetHeader;
  uint8_t* udp;
  if (!tunnel.ipv6()) {
    store16(p + 12, kEtherIpv4);
    ip[0] = 0x45;
    ip[1] = uint8_t(tunnel.dscp << 2);
    store16(ip + 2, uint16_t(kIpv4Header + length));
    store32(ip + 4, Ipv4::kDontFragment);
    store32(ip + 8, uint32_t(64) << 24 | uint32_t(kIpUdp) << 16);
    std::memcpy(ip + 12, tunnel.source->ipv4(), 4);
    std::memcpy(ip + 16, tunnel.destination->ipv4(), 4);
    Ipv4::finish(ip);
    udp = ip + kIpv4Header;
  } else {
    store16(p + 12, kEtherIpv6);
    store32(ip, uint32_t(6) << 28 | uint32_t(tunnel.dscp) << 22);
    store16(ip + 4, uint16_t(length));
    ip[6] = kIpUdp;
    ip[7] = 64;
    std::memcpy(ip + 8, tunnel.source->bytes.data(), 16);
    std::memcpy(ip + 24, tunnel.destination->bytes.data(), 16);
    udp = ip + kIpv6Header;
  }
  store16(udp, tunnel_source_port(tunnel.code));
  store16(udp + 2, tunnel.encapsulation == Encapsulation::nsh ? kVxlanGpePort : kGenevePort);
  store16(udp + 4, uint16_t(length));
  store16(udp + 6, 0);
  if (!tunnel.ipv6()) return;
  uint64_t sum = checksum_add(udp, kUdpHeader, checksum_pseudo(ip + 8, 32, kIpUdp, length));
  bool odd = false;  // pieces may have odd lengths: a byte at an odd place counts in the other half of its word
  for (const Piece& piece : payload) {
    const uint16_t part = checksum_fold(checksum_add(piece.bytes, piece.length, 0));
    sum += odd ? uint16_t(part << 8 | part >> 8) : part;
    odd ^= piece.length & 1;
  }
  const uint16_t checksum = uint16_t(~checksum_fold(sum));
  checksum_store(udp + 6, checksum ? checksum : 0xffff);
}

void write_stamp(uint8_t* p, Encapsulation encapsulation, const Stamp& s, uint8_t inner_version) {
  if (encapsulation == Encapsulation::nsh) {
    write_nsh(p, {.vni = s.vni, .spi = s.spi, .si = s.si, .ttl = s.ttl, .code = s.code});
  } else {
    write_geneve(p, {.protocol = inner_version == 4 ? kEtherIpv4 : kEtherIpv6,
                     .endpoint = geneve_endpoint(s.vni, s.vlans),
                     .attachment = geneve_attachment(s.spi, s.si, s.answer),
                     .cookie = s.code});
  }
}

StampedFrame read_outer(const Frame& frame) {
  StampedFrame s;
  s.result = StampedFrame::Result::not_ours;
  const uint8_t* p = frame.bytes;
  if (frame.length < kEthernetHeader + kIpv4Header + kUdpHeader) return s;
  const uint16_t type = load16(p + 12);
  const uint8_t* ip = p + kEthernetHeader;
  uint32_t end;
  if (type == kEtherIpv4) {
    const uint32_t header = Ipv4::header_length(ip);
    if (ip[0] >> 4 != 4 || header < kIpv4Header || Ipv4::protocol(ip) != kIpUdp) return s;
    if (Ipv4::fragment_field(ip) & (Ipv4::kMoreFragments | Ipv4::kOffsetMask)) return s;
    s.udp = kEthernetHeader + header;
    end = kEthernetHeader + Ipv4::total_length(ip);
    s.source = Address::from_ipv4(ip + 12);
    s.destination = Address::from_ipv4(ip + 16);
  } else if (type == kEtherIpv6) {
    if (frame.length < kEthernetHeader + kIpv6Header + kUdpHeader || Ipv6::next_header(ip) != kIpUdp) return s;
    s.udp = kEthernetHeader + kIpv6Header;
    end = s.udp + Ipv6::payload_length(ip);
    s.source = Address::from_ipv6(ip + 8);
    s.destination = Address::from_ipv6(ip + 24);
  } else {
    return s;
  }
  if (frame.length < s.udp + kUdpHeader) return s;
  const uint16_t port = load16(p + s.udp + 2);
  if (port != kVxlanGpePort && port != kGenevePort) return s;
  s.encapsulation = port == kVxlanGpePort ? Encapsulation::nsh : Encapsulation::geneve;
  const uint32_t length = load16(p + s.udp + 4);
  s.payload = s.udp + kUdpHeader;
  s.payload_end = s.udp + length;
  const bool whole = end <= frame.length && length >= kUdpHeader && s.payload_end <= end && frame.length >= frame.wire_length;
  s.result = whole ? StampedFrame::Result::ok : StampedFrame::Result::malformed;
  return s;
}

bool outer_checksum_ok(const Frame& frame, const StampedFrame& s) {
  const uint8_t* udp = frame.bytes + s.udp;
  const bool zero = load16(udp + 6) == 0;
  if (zero) return s.destination.is_ipv4();
  if (frame.offload.needs_checksum() || (frame.offload.flags & Offload::kDataValid)) return true;
  const bool ipv4 = s.destination.is_ipv4();
  const uint8_t* addresses = frame.bytes + kEthernetHeader + (ipv4 ? 12 : 8);
  const uint32_t length = s.payload_end - s.udp;
  return checksum_fold(checksum_add(udp, length, checksum_pseudo(addresses, ipv4 ? 8 : 32, kIpUdp, length))) == 0xffff;
}

}  // namespace weir
