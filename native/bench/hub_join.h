// Second half of the hub: what the instance sends back is taken apart where it lies, and segments of one stream that follow
// each other leave as one TSO frame.
#pragma once
#include <algorithm>
#include <array>

#include "hub_frames.h"
#include "packet_socket.h"

namespace weir::bench {

class HubJoiner {
 public:
  HubJoiner(PacketSocket& in, PacketSocket& out) : in_(in), out_(out) {}

  void unstamp(const ReceivedFrame& frame) {
    if (frame.length < kOuter + kNshStamp || load16(frame.bytes + 12) != 0x0800 || frame.bytes[23] != kIpUdp || load16(frame.bytes + 36) != kVxlanGpePort) return;
    const uint32_t total = load16(frame.bytes + 38) - kUdpHeader;
    if (kOuter + total > frame.length) return;
    const uint32_t size = frame.offload->gso_type == Offload::kGsoUdp ? frame.offload->gso_size : total;
    if (size <= kNshStamp) return;
    uint8_t *at = frame.bytes + kOuter, *const end = at + total;
    while (at < end) at = take(at, end, size);
  }

  uint64_t joined = 0, single = 0;

 private:
  static constexpr uint32_t kMostSegments = 60;

  // Sends the datagram at `at`, with those behind it that continue its stream. Returns where the next one begins.
  uint8_t* take(uint8_t* at, uint8_t* end, uint32_t size) {
    PacketSocket& socket = at[kSpiLowByte] == kPathToWorkload ? in_ : out_;
    const uint32_t datagram = std::min(uint32_t(end - at), size);
    uint8_t* first = at + kNshStamp;
    uint8_t* next = at + datagram;
    if (datagram <= kNshStamp) return next;
    Offload offload{};
    pieces_[0] = {&offload, sizeof offload};
    pieces_[1] = {first, datagram - kNshStamp};
    uint32_t segments = 1;
    const Lengths l = read_lengths(first, datagram - kNshStamp);
    if (l.ok && l.tcp && l.payload) {
      constexpr uint8_t kLast = Tcp::kFin | Tcp::kPsh;
      uint32_t payload = l.payload, sequence = load32(first + l.transport + 4) + l.payload;
      uint8_t flags = Tcp::flags(first + l.transport);
      for (uint32_t part = l.payload; part == l.payload && next < end && segments < kMostSegments && !(flags & kLast);) {
        const uint32_t length = std::min(uint32_t(end - next), size);
        uint8_t* inner = next + kNshStamp;
        if (length <= kNshStamp + l.headers || next[kSpiLowByte] != at[kSpiLowByte] || std::memcmp(inner + 26, first + 26, 12) != 0 ||
            load32(inner + l.transport + 4) != sequence)
          break;
        part = length - kNshStamp - l.headers;
        if (part > l.payload || l.headers + payload + part > kMostPayload) break;
        pieces_[1 + segments++] = {inner + l.headers, part};
        payload += part;
        sequence += part;
        flags = Tcp::flags(inner + l.transport);
        next += length;
      }
      if (segments > 1) offload = make_super(first, l, payload, flags & kLast);
    }
    (segments > 1 ? joined : single)++;
    socket.send({pieces_.data(), 1 + segments});
    return next;
  }

  static Offload make_super(uint8_t* frame, const Lengths& l, uint32_t payload, uint8_t last_flags) {
    uint8_t* transport = frame + l.transport;
    store16(frame + 16, uint16_t(l.headers - 14 + payload));
    Ipv4::finish(frame + 14);
    transport[13] |= last_flags;
    checksum_store(transport + Tcp::kChecksum, checksum_fold(pseudo_sum(frame, kIpTcp, l.headers - l.transport + payload)));
    Offload offload{};
    offload.flags = Offload::kNeedsChecksum;
    offload.gso_type = Offload::kGsoTcp4;
    offload.gso_size = uint16_t(l.payload);
    offload.header_length = uint16_t(l.headers);
    offload.checksum_start = uint16_t(l.transport);
    offload.checksum_offset = Tcp::kChecksum;
    return offload;
  }

  PacketSocket &in_, &out_;
  std::array<iovec, 2 + kMostSegments> pieces_;
};

}  // namespace weir::bench
