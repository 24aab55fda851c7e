#include "engine/outer_fragments.h"

#include <algorithm>
#include <cstring>

#include "engine/siphash.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {
namespace {

constexpr uint32_t kFragmentHeader = 8;  // of IPv6
constexpr uint32_t kUnit = 8;            // offsets count these
constexpr uint32_t kMostPieces = 16;     // of one datagram

// The pieces of a frame from some place on, one range after another.
class Pieces {
 public:
  Pieces(std::span<const Piece> pieces, uint32_t skip) : left_(pieces), skip_(skip) {}
  // The next n bytes, in at most `most` pieces. Returns how many, 0 where there are not that many.
  uint32_t take(uint32_t n, Piece* to, uint32_t most) {
    uint32_t count = 0;
    while (n) {
      if (left_.empty() || count == most) return 0;
      const uint32_t there = left_[0].length - std::min(skip_, left_[0].length), taken = std::min(n, there);
      if (taken) to[count++] = {left_[0].bytes + skip_, taken};
      n -= taken;
      skip_ += taken;
      if (skip_ >= left_[0].length) {
        skip_ -= left_[0].length;
        left_ = left_.subspan(1);
      }
    }
    return count;
  }

 private:
  std::span<const Piece> left_;
  uint32_t skip_;
};

uint16_t udp_checksum(const OutFrame& frame, uint32_t udp, uint32_t length, uint64_t sum) {
  Pieces pieces(frame.pieces, udp);
  Piece piece[kMostPieces];
  const uint32_t n = pieces.take(length, piece, kMostPieces);
  bool odd = false;
  for (uint32_t i = 0; i < n; i++) {
    const uint16_t part = checksum_fold(checksum_add(piece[i].bytes, piece[i].length, 0));
    sum += odd ? uint16_t(part << 8 | part >> 8) : part;
    odd ^= piece[i].length & 1;
  }
  const uint16_t checksum = uint16_t(~checksum_fold(sum));
  return checksum ? checksum : 0xffff;
}

}  // namespace

uint32_t FragmentIds::next(const uint64_t key[2], const Address& destination) {
  const uint64_t hash = siphash24(key, destination.bytes.data(), 16);
  return uint32_t(hash) + used_[(hash >> 32) % used_.size()].fetch_add(1, std::memory_order_relaxed);
}

uint32_t cut_outer(const OutFrame& frame, uint32_t mtu, uint32_t id, Sink& sink) {
  if (frame.pieces.empty() || frame.pieces.size() > kMostPieces || frame.offload.gso() != Offload::kGsoNone) return 0;
  const Piece& first = frame.pieces[0];
  if (first.length < kEthernetHeader + kIpv4Header + kUdpHeader) return 0;
  const uint16_t type = load16(first.bytes + 12);
  const bool ipv6 = type == kEtherIpv6;
  const uint8_t* ip = first.bytes + kEthernetHeader;
  if (!ipv6 && (type != kEtherIpv4 || ip[0] != 0x45 || Ipv4::protocol(ip) != kIpUdp)) return 0;
  if (ipv6 && (first.length < kEthernetHeader + kIpv6Header + kUdpHeader || Ipv6::next_header(ip) != kIpUdp)) return 0;
  const uint32_t header = ipv6 ? kIpv6Header : kIpv4Header, own = header + (ipv6 ? kFragmentHeader : 0), udp = kEthernetHeader + header;
  const uint32_t total = frame.length() - udp;
  if (mtu < own + kUnit || total > 65535 - own || frame.length() < udp + kUdpHeader) return 0;
  const uint32_t size = (mtu - own) / kUnit * kUnit;

  uint8_t* udp_header = sink.scratch(kUdpHeader);
  std::memcpy(udp_header, first.bytes + udp, kUdpHeader);
  if (frame.offload.needs_checksum() || load16(udp_header + Udp::kChecksum) == 0) {
    // Its own bytes count with the field at zero: what is there is taken away again.
    uint16_t stored;
    std::memcpy(&stored, udp_header + Udp::kChecksum, 2);
    const uint64_t pseudo = checksum_pseudo(ip + (ipv6 ? 8 : 12), ipv6 ? 32 : 8, kIpUdp, total);
    checksum_store(udp_header + Udp::kChecksum, udp_checksum(frame, udp, total, uint64_t(checksum_fold(pseudo)) + uint16_t(~stored)));
  }

  Pieces rest(frame.pieces, udp + kUdpHeader);
  uint32_t count = 0;
  for (uint32_t done = 0; done < total; count++) {
    const uint32_t n = std::min(size, total - done), with_udp = done ? 0 : kUdpHeader;
    const bool more = done + n < total;
    Piece pieces[2 + kMostPieces];
    uint32_t used = 1;
    if (with_udp) pieces[used++] = {udp_header, kUdpHeader};
    used += rest.take(n - with_udp, pieces + used, kMostPieces);
    uint8_t* headers = sink.scratch(kEthernetHeader + own);
    std::memcpy(headers, first.bytes, kEthernetHeader + header);
    uint8_t* h = headers + kEthernetHeader;
    if (ipv6) {
      store16(h + 4, uint16_t(kFragmentHeader + n));
      h[6] = kIpFragment;
      uint8_t* f = h + kIpv6Header;
      f[0] = kIpUdp;
      f[1] = 0;
      store16(f + 2, uint16_t(done | (more ? 1 : 0)));
      store32(f + 4, id);
    } else {
      store16(h + 2, uint16_t(header + n));
      store16(h + 4, uint16_t(id));
      store16(h + 6, uint16_t((more ? Ipv4::kMoreFragments : 0) | done / kUnit));
      Ipv4::finish(h);
    }
    pieces[0] = {headers, kEthernetHeader + own};
    sink.emit({frame.port, {}, {pieces, used}});
    done += n;
  }
  return count;
}

OuterFragment read_outer_fragment(const Frame& frame) {
  OuterFragment f;
  const uint8_t* p = frame.bytes;
  if (frame.length < kEthernetHeader + kIpv4Header) return f;
  const uint8_t* ip = p + kEthernetHeader;
  const uint16_t type = load16(p + 12);
  uint32_t header;
  if (type == kEtherIpv4) {
    const uint16_t field = Ipv4::fragment_field(ip);
    if (ip[0] >> 4 != 4 || Ipv4::protocol(ip) != kIpUdp || !(field & (Ipv4::kMoreFragments | Ipv4::kOffsetMask))) return f;
    header = kIpv4Header;
    f.source = Address::from_ipv4(ip + 12);
    f.destination = Address::from_ipv4(ip + 16);
    f.id = Ipv4::identification(ip);
    f.offset = uint32_t(field & Ipv4::kOffsetMask) * kUnit;
    f.more = field & Ipv4::kMoreFragments;
    f.ip_length = Ipv4::total_length(ip);
  } else if (type == kEtherIpv6) {
    header = kIpv6Header + kFragmentHeader;
    if (frame.length < kEthernetHeader + header || ip[0] >> 4 != 6 || Ipv6::next_header(ip) != kIpFragment || ip[kIpv6Header] != kIpUdp) return f;
    f.source = Address::from_ipv6(ip + 8);
    f.destination = Address::from_ipv6(ip + 24);
    if (f.source.is_ipv4() || f.destination.is_ipv4()) return f;  // IPv4-mapped
    f.id = load32(ip + kIpv6Header + 4);
    f.offset = load16(ip + kIpv6Header + 2) & 0xfff8;
    f.more = ip[kIpv6Header + 3] & 1;
    f.ip_length = kIpv6Header + Ipv6::payload_length(ip);
  } else {
    return f;
  }
  f.kind = OuterFragment::Kind::malformed;
  if ((type == kEtherIpv4 && ip[0] != 0x45) || f.ip_length <= header || kEthernetHeader + f.ip_length > frame.length || frame.length < frame.wire_length) return f;
  f.payload = kEthernetHeader + header;
  f.length = f.ip_length - header;
  // Only the last one may end between two units, and none past the longest datagram.
  if ((f.more && f.length % kUnit) || f.offset + f.length > 65535) return f;
  f.kind = OuterFragment::Kind::fragment;
  return f;
}

}  // namespace weir
