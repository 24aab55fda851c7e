// What the hub's two halves agree on: where things lie in a stamped frame.
//
//   Ethernet 14 | IPv4 20 | UDP 8 | VXLAN-GPE 8 | NSH 16 | inner Ethernet frame
#pragma once
#include <cstdint>
#include <cstring>

#include "engine/frame.h"
#include "wire/ip.h"
#include "wire/transport.h"
#include "wire/vxlan_nsh.h"

namespace weir::bench {

inline constexpr uint32_t kOuter = 14 + kIpv4Header + kUdpHeader;
inline constexpr uint32_t kPathFromWorkload = 7, kPathToWorkload = 8;  // service path identifiers
inline constexpr uint32_t kSpiLowByte = kVxlanGpeHeader + 6;           // of the stamp
inline constexpr uint32_t kMostPayload = 65000;                        // of one write, below the 65,535 bytes of an IP packet
inline constexpr uint32_t kMostDatagrams = 60;                         // of one write; older kernels take 64

// An IPv4 TCP or UDP frame's lengths; `ok` false for everything else.
struct Lengths {
  bool ok = false, tcp = false;
  uint32_t transport = 0, headers = 0, payload = 0;
};

inline Lengths read_lengths(const uint8_t* frame, uint32_t length) {
  Lengths l;
  if (length < 34 || load16(frame + 12) != 0x0800) return l;
  const uint8_t* ip = frame + 14;
  l.tcp = Ipv4::protocol(ip) == kIpTcp;
  if (!l.tcp && Ipv4::protocol(ip) != kIpUdp) return l;
  l.transport = 14 + Ipv4::header_length(ip);
  if (length < l.transport + (l.tcp ? kTcpHeader : kUdpHeader)) return l;
  l.headers = l.transport + (l.tcp ? Tcp::header_length(frame + l.transport) : kUdpHeader);
  const uint32_t end = 14 + Ipv4::total_length(ip);
  if (end > length || l.headers > end) return l;
  l.payload = end - l.headers;
  l.ok = true;
  return l;
}

// Sum of the IPv4 pseudo-header, folded: what a checksum field holds whose rest the kernel completes.
inline uint64_t pseudo_sum(const uint8_t* frame, uint8_t protocol, uint32_t length) { return checksum_pseudo(frame + 14 + 12, 8, protocol, length); }

}  // namespace weir::bench
