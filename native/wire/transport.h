// TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443): the fields that steering reads.
#pragma once
#include <cstdint>

#include "wire/bytes.h"

namespace weir {

inline constexpr uint32_t kTcpHeader = 20, kUdpHeader = 8, kIcmpHeader = 8;

struct Tcp {
  static constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kCwr = 0x80;
  static constexpr uint32_t kChecksum = 16;
  static uint32_t header_length(const uint8_t* p) { return uint32_t(p[12] >> 4) * 4; }
  static uint8_t flags(const uint8_t* p) { return p[13]; }
};

struct Udp {
  static constexpr uint32_t kChecksum = 6;
};

// What an ICMP or ICMPv6 message is to a steering dataplane.
enum class IcmpKind : uint8_t { query, error, neighbour_discovery, other };

inline IcmpKind icmp_kind(uint8_t type) {
  switch (type) {
    case 0: case 8: case 13: case 14: case 15: case 16: case 17: case 18: return IcmpKind::query;
    case 3: case 4: case 5: case 11: case 12: return IcmpKind::error;
    default: return IcmpKind::other;
  }
}

inline IcmpKind icmp6_kind(uint8_t type) {
  if (type < 128) return IcmpKind::error;
  if (type == 128 || type == 129) return IcmpKind::query;
  if (type >= 133 && type <= 137) return IcmpKind::neighbour_discovery;
  return IcmpKind::other;
}

}  // namespace weir
