// IPv4 (RFC 791) and IPv6 (RFC 8200) header fields. Offsets are from the start of the header; whoever uses an accessor has
// checked that the fixed header is there.
#pragma once
#include <cstdint>

#include "wire/bytes.h"
#include "wire/checksum.h"

namespace weir {

inline constexpr uint32_t kIpv4Header = 20, kIpv6Header = 40;
inline constexpr uint8_t kIpHopByHop = 0, kIpIcmp = 1, kIpTcp = 6, kIpUdp = 17, kIpRouting = 43, kIpFragment = 44, kIpAuth = 51,
                         kIpIcmp6 = 58, kIpNoNext = 59, kIpDestination = 60, kIpMobility = 135, kIpHip = 139, kIpShim6 = 140;

struct Ipv4 {
  static constexpr uint16_t kDontFragment = 0x4000, kMoreFragments = 0x2000, kOffsetMask = 0x1fff;
  static uint32_t header_length(const uint8_t* p) { return uint32_t(p[0] & 15) * 4; }
  static uint16_t total_length(const uint8_t* p) { return load16(p + 2); }
  static uint16_t identification(const uint8_t* p) { return load16(p + 4); }
  static uint16_t fragment_field(const uint8_t* p) { return load16(p + 6); }
  static uint8_t protocol(const uint8_t* p) { return p[9]; }
  static void finish(uint8_t* p) {  // header checksum
    store16(p + 10, 0);
    checksum_store(p + 10, uint16_t(~checksum_fold(checksum_add(p, header_length(p), 0))));
  }
};

struct Ipv6 {
  static uint16_t payload_length(const uint8_t* p) { return load16(p + 4); }
  static uint8_t next_header(const uint8_t* p) { return p[6]; }
};

// Extension headers that are walked over to find the transport (RFC 8200 section 4, RFC 7045).
inline constexpr bool is_ipv6_extension(uint8_t next) {
  return next == kIpHopByHop || next == kIpRouting || next == kIpDestination || next == kIpMobility || next == kIpHip ||
         next == kIpShim6;
}

}  // namespace weir
