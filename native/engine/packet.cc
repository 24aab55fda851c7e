#include "engine/packet.h"

#include "wire/ethernet.h"

namespace weir {
namespace {

constexpr int kMaxExtensions = 12;

void malformed(Packet& p, DropReason reason) {
  p.verdict = Packet::Verdict::malformed;
  p.drop = reason;
}

void crossing(Packet& p, CrossReason reason) {
  p.verdict = Packet::Verdict::cross;
  p.cross = reason;
}

// Walks IPv6 extension headers from `at`. Returns false if one lies outside [at, end).
struct Extensions {
  uint8_t protocol;
  uint32_t at;
  bool fragment = false;
  uint16_t fragment_offset = 0;
  bool more = false;
  uint32_t id = 0;
};

bool walk_extensions(const uint8_t* bytes, uint32_t end, Extensions& x) {
  for (int i = 0; i < kMaxExtensions; i++) {
    if (is_ipv6_extension(x.protocol) || x.protocol == kIpAuth) {
      if (x.at + 8 > end) return false;
      const uint32_t length = x.protocol == kIpAuth ? (uint32_t(bytes[x.at + 1]) + 2) * 4 : (uint32_t(bytes[x.at + 1]) + 1) * 8;
      x.protocol = bytes[x.at];
      if (length > end - x.at) return false;
      x.at += length;
    } else if (x.protocol == kIpFragment) {
      if (x.at + 8 > end) return false;
      const uint16_t field = load16(bytes + x.at + 2);
      x.fragment = (field & 0xfff9) != 0;  // an "atomic fragment" (RFC 6946) is none
      x.fragment_offset = field & 0xfff8;
      x.more = field & 1;
      x.id = load32(bytes + x.at + 4);
      x.protocol = bytes[x.at];
      x.at += 8;
      if (x.fragment_offset) return true;  // the rest is data
    } else {
      return true;
    }
  }
  return false;
}

bool has_ports(uint8_t protocol) { return protocol == kIpTcp || protocol == kIpUdp; }

// The tuple of the packet that an ICMP error quotes, turned round: the error travels with the stream's answers.
bool read_quoted(const uint8_t* q, uint32_t n, Tuple& tuple) {
  uint32_t at;
  if (n >= kIpv4Header && q[0] >> 4 == 4) {
    at = Ipv4::header_length(q);
    if (at < kIpv4Header || at + 8 > n || (Ipv4::fragment_field(q) & Ipv4::kOffsetMask)) return false;
    tuple.protocol = Ipv4::protocol(q);
    tuple.source = Address::from_ipv4(q + 16);
    tuple.destination = Address::from_ipv4(q + 12);
  } else if (n >= kIpv6Header && q[0] >> 4 == 6) {
    Extensions x{Ipv6::next_header(q), kIpv6Header};
    if (!walk_extensions(q, n, x) || x.fragment_offset || x.at + 8 > n) return false;
    at = x.at;
    tuple.protocol = x.protocol;
    tuple.source = Address::from_ipv6(q + 24);
    tuple.destination = Address::from_ipv6(q + 8);
    if (tuple.source.is_ipv4() || tuple.destination.is_ipv4()) return false;
  } else {
    return false;
  }
  if (has_ports(tuple.protocol)) {
    tuple.source_port = load16(q + at + 2);
    tuple.destination_port = load16(q + at);
    return true;
  }
  const bool query = (tuple.protocol == kIpIcmp && icmp_kind(q[at]) == IcmpKind::query) ||
                     (tuple.protocol == kIpIcmp6 && icmp6_kind(q[at]) == IcmpKind::query);
  if (query) tuple.source_port = tuple.destination_port = load16(q + at + 4);
  return query;
}

void read_transport(Packet& p) {
  const uint8_t* t = p.bytes + p.transport;
  const uint32_t room = p.end - p.transport;
  p.payload = p.transport;
  if (p.fragment && !p.first_fragment) {
    p.verdict = Packet::Verdict::steer;
    return;
  }
  if (p.ip_protocol == kIpTcp) {
    if (room < kTcpHeader) return malformed(p, DropReason::bad_transport);
    const uint32_t header = Tcp::header_length(t);
    if (header < kTcpHeader || header > room) return malformed(p, DropReason::bad_transport);
    p.tcp_flags = Tcp::flags(t);
    p.payload += header;
  } else if (p.ip_protocol == kIpUdp) {
    if (room < kUdpHeader) return malformed(p, DropReason::bad_transport);
    const uint32_t length = load16(t + 4);
    // Zero is a jumbo or a super-frame whose length does not fit the field.
    if (length != 0 && (length < kUdpHeader || (!p.fragment && length > room))) return malformed(p, DropReason::bad_transport);
    p.payload += kUdpHeader;
  } else {
    if (room < kIcmpHeader) return malformed(p, DropReason::bad_transport);
    const IcmpKind kind = p.ip_protocol == kIpIcmp ? icmp_kind(t[0]) : icmp6_kind(t[0]);
    if (kind == IcmpKind::neighbour_discovery && p.ip_protocol == kIpIcmp6) return crossing(p, CrossReason::neighbour_discovery);
    p.payload += kIcmpHeader;
    if (kind == IcmpKind::query) {
      p.tuple.source_port = p.tuple.destination_port = load16(t + 4);
    } else if (kind == IcmpKind::error) {
      p.icmp_tuple = p.tuple;
      Tuple quoted = p.tuple;
      if (read_quoted(t + kIcmpHeader, room - kIcmpHeader, quoted)) {
        p.icmp_error = true;
        p.tuple = quoted;
      }
    }
  }
  if (has_ports(p.ip_protocol)) {
    p.tuple.source_port = load16(t);
    p.tuple.destination_port = load16(t + 2);
  }
  p.verdict = Packet::Verdict::steer;
}

void read_network(Packet& p, uint32_t length, bool ipv4) {
  const uint8_t* h = p.bytes + p.ip;
  const uint32_t room = length - p.ip;
  if (ipv4) {
    p.version = 4;
    if (room < kIpv4Header || h[0] >> 4 != 4) return malformed(p, DropReason::bad_ip_header);
    const uint32_t header = Ipv4::header_length(h);
    // A super-frame over 64 KiB ("BIG TCP") has length 0: it then ends where the frame ends.
    const uint32_t total = Ipv4::total_length(h) == 0 && room > 65535 ? room : Ipv4::total_length(h);
    if (header < kIpv4Header || header > room) return malformed(p, DropReason::bad_ip_header);
    if (total < header || total > room) return malformed(p, DropReason::bad_ip_length);
    p.end = p.ip + total;
    p.transport = p.ip + header;
    p.ip_protocol = Ipv4::protocol(h);
    const uint16_t fragment = Ipv4::fragment_field(h);
    p.fragment = fragment & (Ipv4::kMoreFragments | Ipv4::kOffsetMask);
    p.first_fragment = p.fragment && !(fragment & Ipv4::kOffsetMask);
    p.fragment_id = Ipv4::identification(h);
    p.tuple.source.set_ipv4(h + 12);
    p.tuple.destination.set_ipv4(h + 16);
  } else {
    p.version = 6;
    if (room < kIpv6Header || h[0] >> 4 != 6) return malformed(p, DropReason::bad_ip_header);
    const uint32_t payload = Ipv6::payload_length(h);
    const bool jumbo = payload == 0 && room > 65535 + kIpv6Header;
    if (!jumbo && payload > room - kIpv6Header) return malformed(p, DropReason::bad_ip_length);
    p.end = jumbo ? length : p.ip + kIpv6Header + payload;
    Extensions x{Ipv6::next_header(h), p.ip + kIpv6Header};
    if (!walk_extensions(p.bytes, p.end, x)) return malformed(p, DropReason::bad_extension);
    p.transport = x.at;
    p.ip_protocol = x.protocol;
    p.fragment = x.fragment;
    p.first_fragment = x.fragment && x.fragment_offset == 0;
    p.fragment_id = x.id;
    p.tuple.source = Address::from_ipv6(h + 8);
    p.tuple.destination = Address::from_ipv6(h + 24);
    // IPv4-mapped ones would make it the stream of another packet. Linux takes none either.
    if (p.tuple.source.is_ipv4() || p.tuple.destination.is_ipv4()) return malformed(p, DropReason::bad_ip_header);
  }
  p.tuple.protocol = p.ip_protocol;
  // What a later fragment of IPv6 says is behind it means nothing (RFC 8200 section 4.5); its first one knows.
  const bool later = !ipv4 && p.fragment && !p.first_fragment;
  const bool steerable = later || has_ports(p.ip_protocol) || p.ip_protocol == (ipv4 ? kIpIcmp : kIpIcmp6);
  return steerable ? read_transport(p) : crossing(p, CrossReason::other_protocol);
}

}  // namespace

void parse_frame(const Frame& frame, Packet& p) {
  p = Packet();
  p.bytes = frame.bytes;
  if (frame.length < kEthernetHeader) return malformed(p, DropReason::runt);
  uint32_t at = kEthernetHeader;
  uint16_t type = load16(frame.bytes + 12);
  if (is_vlan_ethertype(type)) {
    if (frame.length < at + kVlanTag) return malformed(p, DropReason::runt);
    p.outer_tpid = type;
    p.outer_tci = load16(frame.bytes + at);
    type = load16(frame.bytes + at + 2);
    at += kVlanTag;
    if (is_vlan_ethertype(type)) {
      if (frame.length < at + kVlanTag) return malformed(p, DropReason::runt);
      p.inner_tpid = type;
      p.inner_tci = load16(frame.bytes + at);
      type = load16(frame.bytes + at + 2);
      at += kVlanTag;
    }
  }
  p.ip = at;
  if (type != kEtherIpv4 && type != kEtherIpv6) return crossing(p, CrossReason::not_ip);
  if (frame.length < frame.wire_length) return malformed(p, DropReason::truncated);
  p.tuple.vlan_outer = p.outer_tci & 0xfff;
  p.tuple.vlan_inner = p.inner_tci & 0xfff;
  return read_network(p, frame.length, type == kEtherIpv4);
}

void parse_ip(uint8_t* bytes, uint32_t length, uint32_t wire_length, Packet& p) {
  p = Packet();
  p.bytes = bytes;
  if (length < kIpv4Header) return malformed(p, DropReason::bad_ip_header);
  if (length < wire_length) return malformed(p, DropReason::truncated);
  return read_network(p, length, bytes[0] >> 4 == 4);
}

}  // namespace weir
