#include "engine/segment.h"

#include <algorithm>

#include "wire/checksum.h"

namespace weir {

uint64_t pseudo_sum(const Packet& p, uint32_t length) {
  const uint8_t* ip = p.bytes + p.ip;
  return p.version == 4 ? checksum_pseudo(ip + 12, 8, p.ip_protocol, length) : checksum_pseudo(ip + 8, 32, p.ip_protocol, length);
}

namespace {

uint32_t checksum_field(const Packet& p) { return p.transport + (p.ip_protocol == kIpTcp ? Tcp::kChecksum : Udp::kChecksum); }

enum class ChecksumState { good, partial, bad, none };

// For frames captured without a virtio-net header: a partial checksum is the folded pseudo-header sum.
ChecksumState judge_checksum(const Packet& p) {
  if (p.fragment || (p.ip_protocol != kIpTcp && p.ip_protocol != kIpUdp)) return ChecksumState::none;
  uint16_t stored;
  std::memcpy(&stored, p.bytes + checksum_field(p), 2);
  if (stored == 0 && p.ip_protocol == kIpUdp) return ChecksumState::none;
  const uint32_t length = p.end - p.transport;
  const uint64_t pseudo = pseudo_sum(p, length);
  if (checksum_fold(checksum_add(p.bytes + p.transport, length, pseudo)) == 0xffff) return ChecksumState::good;
  return stored == checksum_fold(pseudo) ? ChecksumState::partial : ChecksumState::bad;
}

void store_checksum(const Packet& p) {
  const uint32_t length = p.end - p.transport;
  uint8_t* field = p.bytes + checksum_field(p);
  store16(field, 0);
  const uint16_t sum = uint16_t(~checksum_fold(checksum_add(p.bytes + p.transport, length, pseudo_sum(p, length))));
  checksum_store(field, sum == 0 && p.ip_protocol == kIpUdp ? 0xffff : sum);
}

void whole(const Packet& p, const Frame& frame, const SegmentRequest& r, Sink& sink, SegmentReceiver& receiver) {
  uint8_t* inner = p.bytes + r.from;
  const uint32_t length = p.end - r.from;
  if (r.in_place && frame.headroom + r.from >= r.room) {
    receiver.segment(inner, length, {inner, 0});
  } else {
    receiver.segment(sink.scratch(r.room) + r.room, 0, {inner, length});
  }
}

// Copies the headers up to the payload behind `room` fresh bytes and sets the IP header for `payload` bytes.
uint8_t* copy_headers(const Packet& p, const SegmentRequest& r, uint32_t payload, uint32_t index, Sink& sink) {
  uint8_t* header = sink.scratch(r.room + p.payload - r.from) + r.room;
  std::memcpy(header, p.bytes + r.from, p.payload - r.from);
  uint8_t* ip = header + p.ip - r.from;
  if (p.version == 4) {
    store16(ip + 2, uint16_t(p.payload - p.ip + payload));
    store16(ip + 4, uint16_t(Ipv4::identification(ip) + index));
    Ipv4::finish(ip);
  } else {
    store16(ip + 4, uint16_t(p.payload - p.ip - kIpv6Header + payload));
  }
  return header;
}

void segment_checksum(const Packet& p, uint8_t* transport, const uint8_t* payload, uint32_t n) {
  const uint32_t header = p.payload - p.transport;
  uint8_t* field = transport + checksum_field(p) - p.transport;
  store16(field, 0);
  // The header's length is even, so the payload continues the sum.
  const uint64_t sum = checksum_add(payload, n, checksum_add(transport, header, pseudo_sum(p, header + n)));
  const uint16_t folded = uint16_t(~checksum_fold(sum));
  checksum_store(field, folded == 0 && p.ip_protocol == kIpUdp ? 0xffff : folded);
}

void cut_tcp(const Packet& p, uint32_t size, const SegmentRequest& r, Sink& sink, SegmentReceiver& receiver) {
  const uint32_t total = p.end - p.payload, sequence = load32(p.bytes + p.transport + 4);
  for (uint32_t done = 0, index = 0; done < total; index++) {
    const uint32_t n = std::min(size, total - done);
    uint8_t* header = copy_headers(p, r, n, index, sink);
    uint8_t* tcp = header + p.transport - r.from;
    store32(tcp + 4, sequence + done);
    if (done + n < total) tcp[13] &= uint8_t(~(Tcp::kFin | Tcp::kPsh));
    if (index > 0) tcp[13] &= uint8_t(~Tcp::kCwr);  // RFC 3168: once per window
    segment_checksum(p, tcp, p.bytes + p.payload + done, n);
    receiver.segment(header, p.payload - r.from, {p.bytes + p.payload + done, n});
    done += n;
  }
}

void cut_udp(const Packet& p, uint32_t size, const SegmentRequest& r, Sink& sink, SegmentReceiver& receiver) {
  const uint32_t total = p.end - p.payload;
  for (uint32_t done = 0, index = 0; done < total; index++) {
    const uint32_t n = std::min(size, total - done);
    uint8_t* header = copy_headers(p, r, n, index, sink);
    uint8_t* udp = header + p.transport - r.from;
    store16(udp + 4, uint16_t(kUdpHeader + n));
    segment_checksum(p, udp, p.bytes + p.payload + done, n);
    receiver.segment(header, p.payload - r.from, {p.bytes + p.payload + done, n});
    done += n;
  }
}

// Options without the "copied" flag (RFC 791 section 3.1) stay in the first fragment only.
void blank_uncopied_options(uint8_t* ip, uint32_t header) {
  for (uint32_t at = kIpv4Header; at < header;) {
    const uint8_t kind = ip[at];
    if (kind == 0) break;
    const uint32_t length = kind == 1 ? 1 : at + 1 < header ? std::max<uint32_t>(ip[at + 1], 1) : 1;
    if (at + length > header) break;
    if (!(kind & 0x80)) std::memset(ip + at, 1, length);
    at += length;
  }
}

void fragment_ipv4(const Packet& p, const SegmentRequest& r, Sink& sink, SegmentReceiver& receiver) {
  const uint8_t* ip = p.bytes + p.ip;
  const uint32_t header = Ipv4::header_length(ip), total = p.ip_length() - header;
  const uint16_t field = Ipv4::fragment_field(ip);
  const uint32_t size = (r.max_ip - header) / 8 * 8;
  for (uint32_t done = 0; done < total;) {
    const uint32_t n = std::min(size, total - done);
    uint8_t* copy = sink.scratch(r.room + p.ip - r.from + header) + r.room;
    std::memcpy(copy, p.bytes + r.from, p.ip - r.from + header);
    uint8_t* h = copy + p.ip - r.from;
    if (done) blank_uncopied_options(h, header);
    const bool more = done + n < total || (field & Ipv4::kMoreFragments);
    store16(h + 2, uint16_t(header + n));
    store16(h + 6, uint16_t((more ? Ipv4::kMoreFragments : 0) | ((field & Ipv4::kOffsetMask) + done / 8)));
    Ipv4::finish(h);
    receiver.segment(copy, p.ip - r.from + header, {ip + header + done, n});
    done += n;
  }
}

}  // namespace

bool complete_checksum(const Packet& p, const Frame& frame) {
  const uint32_t start = frame.offload.checksum_start, field = start + frame.offload.checksum_offset;
  if (start < p.ip || start >= p.end || field + 2 > p.end) return false;
  // The field holds the pseudo-header's sum, which thereby counts too.
  const uint16_t sum = uint16_t(~checksum_fold(checksum_add(p.bytes + start, p.end - start, 0)));
  checksum_store(p.bytes + field, sum == 0 && p.ip_protocol == kIpUdp ? 0xffff : sum);
  return true;
}

SegmentResult segment(const Packet& p, const Frame& frame, const SegmentRequest& r, Sink& sink, SegmentReceiver& receiver) {
  const bool fits = p.ip_length() <= r.max_ip;
  const uint32_t headers = p.payload - p.ip;
  const uint8_t gso = frame.offload.gso();
  if (gso != Offload::kGsoNone) {
    const bool tcp = gso == Offload::kGsoTcp4 || gso == Offload::kGsoTcp6;
    const bool known = (tcp && p.ip_protocol == kIpTcp) || (gso == Offload::kGsoUdp && p.ip_protocol == kIpUdp);
    if (!known || p.fragment || frame.offload.gso_size == 0 ||
        (frame.offload.needs_checksum() && frame.offload.checksum_start != p.transport))
      return SegmentResult::unsupported;
    if (headers >= r.max_ip) return SegmentResult::too_big;
    if (tcp) {
      if (p.payload == p.end) return whole(p, frame, r, sink, receiver), SegmentResult::ok;
      cut_tcp(p, std::min<uint32_t>(frame.offload.gso_size, r.max_ip - headers), r, sink, receiver);
      return SegmentResult::ok;
    }
    if (frame.offload.gso_size > r.max_ip - headers) return SegmentResult::too_big;  // datagrams can't be cut elsewhere
    cut_udp(p, frame.offload.gso_size, r, sink, receiver);
    return SegmentResult::ok;
  }

  bool bad = false;
  if (frame.offload.needs_checksum()) {
    if (!complete_checksum(p, frame)) return SegmentResult::unsupported;
  } else if (frame.offload_unknown || !fits) {
    const ChecksumState state = judge_checksum(p);
    if (state == ChecksumState::partial && p.ip_length() <= 65535) store_checksum(p);
    bad = state == ChecksumState::bad;
  }
  if (fits) {
    whole(p, frame, r, sink, receiver);
    return SegmentResult::ok;
  }
  const bool may_fragment = p.version == 4 && !(Ipv4::fragment_field(p.bytes + p.ip) & Ipv4::kDontFragment);
  // A SYN with data (RFC 7413) would become two of them, with the data of the second at another place.
  if (p.ip_protocol == kIpTcp && !p.fragment && p.payload < p.end && !(p.tcp_flags & Tcp::kSyn)) {
    if (headers >= r.max_ip) return SegmentResult::too_big;
    if (bad && !frame.offload_unknown) return SegmentResult::corrupt;  // cutting would make a right checksum for wrong bytes
    cut_tcp(p, r.max_ip - headers, r, sink, receiver);
    return SegmentResult::ok;
  }
  if (!may_fragment || r.max_ip < Ipv4::header_length(p.bytes + p.ip) + 8) return SegmentResult::too_big;
  fragment_ipv4(p, r, sink, receiver);
  return SegmentResult::ok;
}

void clamp_mss(const Packet& p, const Frame& frame, uint16_t mss) {
  uint8_t* tcp = p.bytes + p.transport;
  const uint32_t header = p.payload - p.transport;
  for (uint32_t at = kTcpHeader; at < header;) {
    const uint8_t kind = tcp[at];
    if (kind == 0) return;
    if (kind == 1) {
      at++;
      continue;
    }
    if (at + 1 >= header || tcp[at + 1] < 2 || at + tcp[at + 1] > header) return;
    if (kind == 2 && tcp[at + 1] == 4) {
      if (load16(tcp + at + 2) <= mss) return;
      const bool partial = frame.offload.needs_checksum() || (frame.offload_unknown && judge_checksum(p) == ChecksumState::partial);
      if (partial) {
        store16(tcp + at + 2, mss);  // the pseudo-header's sum does not cover it
      } else if (at % 2 == 0) {
        checksum_replace16(tcp + Tcp::kChecksum, tcp + at + 2, mss);
      } else {
        // At an odd offset the option straddles two checksum words; replace both.
        checksum_replace16(tcp + Tcp::kChecksum, tcp + at + 1, uint16_t(tcp[at + 1] << 8 | mss >> 8));
        checksum_replace16(tcp + Tcp::kChecksum, tcp + at + 3, uint16_t((mss & 255) << 8 | (at + 4 < header ? tcp[at + 4] : 0)));
      }
      return;
    }
    at += tcp[at + 1];
  }
}

}  // namespace weir
