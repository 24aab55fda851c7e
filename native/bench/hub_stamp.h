// First half of the hub: a frame or TCP super-frame from the capture leaves as stamped datagrams, many in one UDP GSO write.
// Headers and checksums are made per segment; payload is sent from where it lies in the ring.
#pragma once
#include <algorithm>
#include <array>

#include "hub_frames.h"
#include "packet_socket.h"

namespace weir::bench {

class HubStamper {
 public:
  HubStamper(PacketSocket& underlay, const uint8_t instance_mac[6]) : underlay_(underlay) {
    std::memcpy(outer_, instance_mac, 6);
    static constexpr uint8_t kRest[8] = {2, 0, 0, 0, 0, 0x77, 8, 0};
    std::memcpy(outer_ + 6, kRest, sizeof kRest);
    uint8_t* ip = outer_ + 14;
    ip[0] = 0x45;
    store16(ip + 6, Ipv4::kDontFragment);
    ip[8] = 64;
    ip[9] = kIpUdp;
    store32(ip + 12, 0x0a140001);  // 10.20.0.1
    store32(ip + 16, 0x0a14000b);  // 10.20.0.11
    store16(ip + 20, 49408);
    store16(ip + 22, kVxlanGpePort);
    write_nsh(stamp_, {.spi = kPathFromWorkload, .si = 255, .ttl = 63, .code = 0xdeadbeef});
  }

  void send(const ReceivedFrame& frame, const Lengths& l, bool from_workload) {
    const bool super = frame.offload->gso_type != Offload::kGsoNone;
    const uint32_t size = super ? frame.offload->gso_size : std::max(l.payload, 1u);
    stamp_[kSpiLowByte] = uint8_t(from_workload ? kPathFromWorkload : kPathToWorkload);
    uint32_t done = 0, index = 0;
    do {
      uint32_t datagrams = 0, total = 0;
      pieces_[0] = {&head_, sizeof head_};
      do {
        const uint32_t part = std::min(l.payload - done, size);
        if (total + kNshStamp + l.headers + part > kMostPayload) break;
        Headers& h = headers_[datagrams];
        write_segment(h.bytes, frame, l, super, index, done, part);
        pieces_[1 + 2 * datagrams] = {h.bytes, kNshStamp + l.headers};
        pieces_[2 + 2 * datagrams] = {frame.bytes + l.headers + done, part};
        done += part;
        total += kNshStamp + l.headers + part;
        datagrams++;
        index++;
      } while (done < l.payload && datagrams < kMostDatagrams);
      if (!datagrams) return;  // a single packet too long for a datagram
      write_head(datagrams, total, kNshStamp + l.headers + size);
      underlay_.send({pieces_.data(), 1 + 2 * datagrams});
    } while (done < l.payload);
  }

 private:
  struct Headers {
    uint8_t bytes[kNshStamp + 14 + 60 + 60];
  };
  struct Head {
    Offload offload;
    uint8_t outer[kOuter];
  };
  static_assert(sizeof(Head) == sizeof(Offload) + kOuter);

  // Segment `index` of the frame, `part` bytes from `done` on: stamp and inner headers.
  void write_segment(uint8_t* to, const ReceivedFrame& frame, const Lengths& l, bool super, uint32_t index, uint32_t done, uint32_t part) const {
    std::memcpy(to, stamp_, kNshStamp);
    uint8_t* inner = to + kNshStamp;
    std::memcpy(inner, frame.bytes, l.headers);
    uint8_t* ip = inner + 14;
    uint8_t* transport = inner + l.transport;
    if (super) {
      store16(ip + 2, uint16_t(l.headers - 14 + part));
      store16(ip + 4, uint16_t(Ipv4::identification(frame.bytes + 14) + index));
      Ipv4::finish(ip);
      if (l.tcp) {
        store32(transport + 4, load32(frame.bytes + l.transport + 4) + done);
        if (done + part < l.payload) transport[13] &= uint8_t(~(Tcp::kFin | Tcp::kPsh));
      } else {
        store16(transport + 4, uint16_t(kUdpHeader + part));
      }
    }
    if (!(frame.offload->flags & Offload::kNeedsChecksum)) return;
    uint8_t* checksum = transport + (l.tcp ? Tcp::kChecksum : Udp::kChecksum);
    checksum_store(checksum, 0);
    const uint32_t length = l.headers - l.transport + part;
    uint64_t sum = checksum_add(transport, l.headers - l.transport, pseudo_sum(inner, Ipv4::protocol(ip), length));
    sum = checksum_add(frame.bytes + l.headers + done, part, sum);
    checksum_store(checksum, uint16_t(~checksum_fold(sum)));
  }

  void write_head(uint32_t datagrams, uint32_t total, uint32_t size) {
    head_.offload = {};
    std::memcpy(head_.outer, outer_, kOuter);
    uint8_t* ip = head_.outer + 14;
    uint8_t* udp = ip + kIpv4Header;
    store16(ip + 2, uint16_t(kIpv4Header + kUdpHeader + total));
    Ipv4::finish(ip);
    store16(udp + 4, uint16_t(kUdpHeader + total));
    if (datagrams == 1) return;  // without UDP checksum, as RFC 768 allows
    head_.offload.flags = Offload::kNeedsChecksum;
    head_.offload.gso_type = Offload::kGsoUdp;
    head_.offload.gso_size = uint16_t(size);
    head_.offload.header_length = kOuter;
    head_.offload.checksum_start = 14 + kIpv4Header;
    head_.offload.checksum_offset = Udp::kChecksum;
    checksum_store(udp + Udp::kChecksum, checksum_fold(pseudo_sum(head_.outer, kIpUdp, kUdpHeader + total)));
  }

  PacketSocket& underlay_;
  uint8_t outer_[kOuter] = {}, stamp_[kNshStamp] = {};
  Head head_{};
  std::array<Headers, kMostDatagrams> headers_;
  std::array<iovec, 1 + 2 * kMostDatagrams> pieces_;
};

}  // namespace weir::bench
