#include "engine/segment_join.h"

#include <cstring>

#include "engine/segment.h"
#include "wire/checksum.h"

namespace weir {
namespace {

constexpr uint32_t kLongestIp = 65535;

// Both checksums: joining would write new ones.
bool checksums_ok(const Packet& p) {
  if (p.version == 4 && checksum_fold(checksum_add(p.bytes + p.ip, p.transport - p.ip, 0)) != 0xffff) return false;
  const uint32_t length = p.end - p.transport;
  return checksum_fold(checksum_add(p.bytes + p.transport, length, pseudo_sum(p, length))) == 0xffff;
}

bool equal(const uint8_t* a, const uint8_t* b, uint32_t from, uint32_t to) { return std::memcmp(a + from, b + from, to - from) == 0; }

// All of the IP header but length, identification and checksum. Identifications must count up (or not matter).
bool ip_continues(const Packet& a, const Packet& b, uint32_t nth) {
  const uint8_t *x = a.bytes + a.ip, *y = b.bytes + b.ip;
  const uint32_t header = a.transport - a.ip;
  if (b.transport - b.ip != header || a.version != b.version) return false;
  if (a.version == 6) return equal(x, y, 0, 4) && equal(x, y, 6, header);
  const bool counted = uint16_t(Ipv4::identification(x) + nth) == Ipv4::identification(y);
  return equal(x, y, 0, 2) && equal(x, y, 6, 10) && equal(x, y, 12, header) && (counted || (Ipv4::fragment_field(x) & Ipv4::kDontFragment));
}

// Ports, acknowledgement, data offset, window, urgent pointer and options.
bool tcp_continues(const Packet& a, const Packet& b) {
  const uint8_t *x = a.bytes + a.transport, *y = b.bytes + b.transport;
  const uint32_t header = a.payload - a.transport;
  return b.payload - b.transport == header && equal(x, y, 0, 4) && equal(x, y, 8, 13) && equal(x, y, 14, 16) && equal(x, y, 18, header);
}

}  // namespace

void SegmentJoin::start(const Packet& packet, const void* stream, Piece link) {
  stream_ = stream;
  first_ = packet;
  first_checked_ = false;
  count_ = 1;
  pieces_in_use_ = 0;
  link_length_ = link.length;
  size_ = last_ = payload_ = packet.end - packet.payload;
  last_flags_ = packet.tcp_flags;
  bytes_ = link.length + packet.ip_length();
  pieces_[pieces_in_use_++] = link;
  pieces_[pieces_in_use_++] = {packet.bytes + packet.ip, packet.ip_length()};
}

bool SegmentJoin::append(const Packet& p, const void* stream) {
  if (stream != stream_) return false;
  constexpr uint8_t kPlain = Tcp::kAck, kLast = Tcp::kAck | Tcp::kPsh | Tcp::kFin;
  const uint32_t n = p.end - p.payload;
  if (first_.ip_protocol != kIpTcp || p.ip_protocol != kIpTcp || first_.fragment || p.fragment) return false;
  if (last_flags_ != kPlain || (p.tcp_flags | kLast) != kLast || !(p.tcp_flags & Tcp::kAck)) return false;
  if (n == 0 || n > size_ || last_ != size_ || pieces_in_use_ == pieces_.size()) return false;
  if (first_.payload - first_.ip + payload_ + n > kLongestIp) return false;
  const uint8_t* tcp = first_.bytes + first_.transport;
  if (load32(p.bytes + p.transport + 4) != load32(tcp + 4) + payload_) return false;
  if (p.ip != first_.ip || std::memcmp(p.bytes, first_.bytes, p.ip) != 0) return false;
  if (!ip_continues(first_, p, count_) || !tcp_continues(first_, p)) return false;
  if (!first_checked_ && !checksums_ok(first_)) return false;
  first_checked_ = true;
  if (!checksums_ok(p)) return false;
  pieces_[pieces_in_use_++] = {p.bytes + p.payload, n};
  payload_ += n;
  last_ = n;
  last_flags_ = p.tcp_flags;
  bytes_ += link_length_ + p.ip_length();
  count_++;
  return true;
}

Offload SegmentJoin::finish(std::span<const Piece>& pieces) {
  pieces = {pieces_.data(), pieces_in_use_};
  Offload offload;
  if (count_ < 2) return offload;
  uint8_t* ip = first_.bytes + first_.ip;
  uint8_t* tcp = first_.bytes + first_.transport;
  const uint32_t length = first_.payload - first_.ip + payload_;
  if (first_.version == 4) {
    store16(ip + 2, uint16_t(length));
    Ipv4::finish(ip);
  } else {
    store16(ip + 4, uint16_t(length - kIpv6Header));
  }
  tcp[13] = last_flags_;
  checksum_store(tcp + Tcp::kChecksum, checksum_fold(pseudo_sum(first_, length - (first_.transport - first_.ip))));
  offload.flags = Offload::kNeedsChecksum;
  offload.gso_type = first_.version == 4 ? Offload::kGsoTcp4 : Offload::kGsoTcp6;
  offload.gso_size = uint16_t(size_);
  offload.checksum_start = uint16_t(link_length_ + first_.transport - first_.ip);
  offload.checksum_offset = Tcp::kChecksum;
  offload.header_length = uint16_t(offload.checksum_start + first_.payload - first_.transport);
  return offload;
}

}  // namespace weir
