#include "engine/stamp.h"

#include <cstring>

#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {

namespace {

bool is_stamp_port(uint16_t port) { return port == kVxlanGpePort || port == kGenevePort; }

// Everything but the UDP checksum, which stays zero. Returns the UDP header.
uint8_t* write_headers(uint8_t* p, const Tunnel& tunnel, uint32_t length) {
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
  return udp;
}

uint64_t outer_pseudo_sum(const uint8_t* frame, bool ipv6, uint32_t length) {
  const uint8_t* addresses = frame + kEthernetHeader + (ipv6 ? 8 : 12);
  return checksum_pseudo(addresses, ipv6 ? 32 : 8, kIpUdp, length);
}

}  // namespace

void write_outer(uint8_t* p, const Tunnel& tunnel, std::span<const Piece> payload) {
  uint32_t length = kUdpHeader;
  for (const Piece& piece : payload) length += piece.length;
  uint8_t* udp = write_headers(p, tunnel, length);
  if (!tunnel.ipv6()) return;
  uint64_t sum = checksum_add(udp, kUdpHeader, outer_pseudo_sum(p, true, length));
  bool odd = false;  // pieces may have odd lengths: a byte at an odd place counts in the other half of its word
  for (const Piece& piece : payload) {
    const uint16_t part = checksum_fold(checksum_add(piece.bytes, piece.length, 0));
    sum += odd ? uint16_t(part << 8 | part >> 8) : part;
    odd ^= piece.length & 1;
  }
  const uint16_t checksum = uint16_t(~checksum_fold(sum));
  checksum_store(udp + 6, checksum ? checksum : 0xffff);
}

Offload write_outer_batch(uint8_t* p, const Tunnel& tunnel, uint32_t payload, uint32_t size) {
  const uint32_t length = kUdpHeader + payload;
  uint8_t* udp = write_headers(p, tunnel, length);
  checksum_store(udp + 6, checksum_fold(outer_pseudo_sum(p, tunnel.ipv6(), length)));
  return batch_offload(uint32_t(udp - p), size);
}

Offload batch_offload(uint32_t udp, uint32_t size) {
  Offload offload;
  offload.flags = Offload::kNeedsChecksum;
  offload.gso_type = Offload::kGsoUdp;
  offload.gso_size = uint16_t(size);
  offload.header_length = uint16_t(udp + kUdpHeader);
  offload.checksum_start = uint16_t(udp);
  offload.checksum_offset = Udp::kChecksum;
  return offload;
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

ReturnedStamp read_returned_stamp(const uint8_t* p, uint32_t length, Encapsulation encapsulation) {
  ReturnedStamp r;
  auto refused = [&](DropReason reason) {
    r.refused = reason;
    return r;
  };
  if (encapsulation == Encapsulation::nsh) {
    const std::optional<NshStamp> stamp = read_nsh(p, length);
    if (!stamp) return refused(DropReason::return_malformed);
    r.length = stamp->length;
    if (stamp->oam) return refused(DropReason::oam);
    if (stamp->ttl <= 1) return refused(DropReason::ttl_expired);
    r.ethernet = stamp->next_protocol == kNshProtocolEthernet;
    if (!r.ethernet && stamp->next_protocol != kNshProtocolIpv4 && stamp->next_protocol != kNshProtocolIpv6)
      return refused(DropReason::return_malformed);
    if (stamp->si == kNshFirstIndex) return refused(DropReason::return_bad_index);
    r.spi = stamp->spi;
    r.code = stamp->code;
    r.tenant = stamp->vni;
    r.ttl = uint8_t(stamp->ttl - 1);
    r.step = kNshFirstIndex - stamp->si;  // the instance has counted down
  } else {
    const std::optional<GeneveStamp> stamp = read_geneve(p, length);
    if (!stamp || (stamp->protocol != kEtherIpv4 && stamp->protocol != kEtherIpv6)) return refused(DropReason::return_malformed);
    r.length = stamp->length;
    if (stamp->oam) return refused(DropReason::oam);
    if (stamp->endpoint >> 48 || stamp->attachment >> 40) return refused(DropReason::return_malformed);
    r.spi = uint32_t(stamp->attachment >> 16) & 0xffffff;
    r.code = stamp->cookie;
    r.tenant = uint32_t(stamp->endpoint) & 0xffffff;
    r.vlans = uint32_t(stamp->endpoint >> 24);
    r.step = kNshFirstIndex - (uint32_t(stamp->attachment >> 8) & 255) + 1;  // the header comes back unchanged
  }
  return r;
}

void advance_stamp(uint8_t* p, Encapsulation encapsulation, const ReturnedStamp& read, uint32_t spi, uint32_t step) {
  const uint8_t si = uint8_t(kNshFirstIndex - step);
  if (encapsulation == Encapsulation::nsh) {
    store16(p + kNshTtlWord, uint16_t((load16(p + kNshTtlWord) & 0xf03f) | read.ttl << 6));
    p[kNshPathWord + 3] = si;
  } else {
    write_geneve(p, {.protocol = load16(p + 2),
                     .endpoint = geneve_endpoint(read.tenant, read.vlans),
                     .attachment = geneve_attachment(spi, si, spi & 1),
                     .cookie = read.code});
  }
}

OuterError read_outer_error(const Frame& frame) {
  OuterError error;
  if (frame.length < kEthernetHeader + kIpv4Header) return error;
  const uint8_t* ip = frame.bytes + kEthernetHeader;
  const uint16_t type = load16(frame.bytes + 12);
  OuterError::Kind kind;
  if (type == kEtherIpv4) {
    const uint32_t header = Ipv4::header_length(ip), quoted = header + kIcmpHeader;
    if (header < kIpv4Header || Ipv4::protocol(ip) != kIpIcmp || frame.length < kEthernetHeader + quoted + kIpv4Header + kUdpHeader) return error;
    const uint8_t *icmp = ip + header, *q = ip + quoted;
    constexpr uint8_t kUnreachable = 3, kFragmentationNeeded = 4;
    if (icmp[0] != kUnreachable || q[0] != 0x45 || Ipv4::protocol(q) != kIpUdp) return error;
    kind = icmp[1] == kFragmentationNeeded ? OuterError::Kind::too_long : OuterError::Kind::unreachable;
    error.mtu = load16(icmp + 6);
    error.from = Address::from_ipv4(q + 12);
    error.to = Address::from_ipv4(q + 16);
    if (!is_stamp_port(load16(q + kIpv4Header + 2))) return error;
  } else if (type == kEtherIpv6) {
    constexpr uint32_t kQuoted = kIpv6Header + kIcmpHeader;
    if (frame.length < kEthernetHeader + kQuoted + kIpv6Header + kUdpHeader || Ipv6::next_header(ip) != kIpIcmp6) return error;
    const uint8_t *icmp = ip + kIpv6Header, *q = ip + kQuoted;
    constexpr uint8_t kUnreachable = 1, kPacketTooBig = 2;
    if ((icmp[0] != kUnreachable && icmp[0] != kPacketTooBig) || q[0] >> 4 != 6 || Ipv6::next_header(q) != kIpUdp) return error;
    kind = icmp[0] == kPacketTooBig ? OuterError::Kind::too_long : OuterError::Kind::unreachable;
    error.mtu = load32(icmp + 4);
    error.from = Address::from_ipv6(q + 8);
    error.to = Address::from_ipv6(q + 24);
    if (error.from.is_ipv4() || error.to.is_ipv4()) return error;
    if (!is_stamp_port(load16(q + kIpv6Header + 2))) return error;
  } else {
    return error;
  }
  error.kind = kind;
  return error;
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
    // IPv4-mapped ones would speak for who has the IPv4 address.
    if (s.source.is_ipv4() || s.destination.is_ipv4()) return s;
  } else {
    return s;
  }
  if (frame.length < s.udp + kUdpHeader) return s;
  uint16_t port = load16(p + s.udp + 2);
  if (port != kVxlanGpePort && port != kGenevePort) port = load16(p + s.udp);
  if (port != kVxlanGpePort && port != kGenevePort) return s;
  s.encapsulation = port == kVxlanGpePort ? Encapsulation::nsh : Encapsulation::geneve;
  const uint32_t length = load16(p + s.udp + 4);
  s.payload = s.udp + kUdpHeader;
  s.payload_end = s.udp + length;
  const bool whole = end <= frame.length && length >= kUdpHeader && s.payload_end <= end && frame.length >= frame.wire_length;
  s.result = whole ? StampedFrame::Result::ok : StampedFrame::Result::malformed;
  return s;
}

static uint64_t outer_pseudo_sum(const Frame& frame, const StampedFrame& s) {
  const bool ipv4 = s.destination.is_ipv4();
  return checksum_pseudo(frame.bytes + kEthernetHeader + (ipv4 ? 12 : 8), ipv4 ? 8 : 32, kIpUdp, s.payload_end - s.udp);
}

bool outer_checksum_unmade(const Frame& frame, const StampedFrame& s) {
  if (frame.offload.needs_checksum()) return true;
  if (!frame.offload_unknown) return false;
  uint16_t stored;
  std::memcpy(&stored, frame.bytes + s.udp + 6, 2);
  return stored == checksum_fold(outer_pseudo_sum(frame, s));
}

bool outer_checksum_ok(const Frame& frame, const StampedFrame& s) {
  const uint8_t* udp = frame.bytes + s.udp;
  const bool zero = load16(udp + 6) == 0;
  if (zero) return s.destination.is_ipv4();
  if ((frame.offload.flags & Offload::kDataValid) || outer_checksum_unmade(frame, s)) return true;
  return checksum_fold(checksum_add(udp, s.payload_end - s.udp, outer_pseudo_sum(frame, s))) == 0xffff;
}

}  // namespace weir
