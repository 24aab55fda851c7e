// VXLAN-GPE (8 bytes) and the Network Service Header (RFC 8300) as weir writes it: MD type 2 with one Flow ID context
// header (RFC 9263), 16 bytes. Reading accepts MD type 1 and 2 with whatever other context headers there are.
#pragma once
#include <cstdint>
#include <optional>

#include "wire/bytes.h"

namespace weir {

inline constexpr uint16_t kVxlanGpePort = 4790;
inline constexpr uint32_t kVxlanGpeHeader = 8, kNshHeader = 16, kNshStamp = kVxlanGpeHeader + kNshHeader;
inline constexpr uint8_t kNshFirstIndex = 255, kNshFirstTtl = 63;
inline constexpr uint16_t kNshFlowIdClass = 0x0000;
inline constexpr uint8_t kNshFlowIdType = 0x08;  // RFC 9263 section 4, IANA "NSH IETF-Assigned Optional Variable-Length Metadata Types"
inline constexpr uint8_t kNshOam = 0x20;     // O bit, in the first byte of NSH
inline constexpr uint8_t kNshProtocolIpv4 = 1, kNshProtocolIpv6 = 2, kNshProtocolEthernet = 3;

struct NshStamp {
  uint32_t vni = 0;
  uint32_t spi = 0;
  uint8_t si = 0;
  uint8_t ttl = 0;
  uint8_t next_protocol = kNshProtocolEthernet;
  bool oam = false;
  uint32_t code = 0;
  uint32_t length = kNshStamp;  // bytes of VXLAN-GPE and NSH together, as read
};

inline void write_nsh(uint8_t* p, const NshStamp& s) {
  store32(p, 0x0c000004);      // I and P flags, next protocol NSH
  store32(p + 4, s.vni << 8);
  uint8_t* n = p + kVxlanGpeHeader;
  store16(n, uint16_t((s.oam ? 0x2000 : 0) | (s.ttl & 63) << 6 | 4));
  n[2] = 2;  // MD type 2
  n[3] = s.next_protocol;
  store32(n + 4, s.spi << 8 | s.si);
  store16(n + 8, kNshFlowIdClass);
  n[10] = kNshFlowIdType;
  n[11] = 4;
  store32(n + 12, s.code);
}

// Offsets of what a forwarder changes in place, from the start of VXLAN-GPE.
inline constexpr uint32_t kNshTtlWord = kVxlanGpeHeader, kNshPathWord = kVxlanGpeHeader + 4;

inline std::optional<NshStamp> read_nsh(const uint8_t* p, uint32_t n) {
  if (n < kVxlanGpeHeader + 8 || (p[0] & 0x0c) != 0x0c || (p[0] & 0x30) != 0 || p[3] != 4) return std::nullopt;
  const uint8_t* h = p + kVxlanGpeHeader;
  const uint32_t length = uint32_t(h[1] & 63) * 4;
  if ((h[0] & 0xc0) != 0 || length < 8 || length > n - kVxlanGpeHeader) return std::nullopt;
  NshStamp s;
  s.vni = load24(p + 4);
  s.oam = h[0] & kNshOam;
  s.ttl = uint8_t(load16(h) >> 6 & 63);
  s.next_protocol = h[3];
  s.spi = load24(h + 4);
  s.si = h[7];
  s.length = kVxlanGpeHeader + length;
  const uint8_t md_type = h[2] & 15;
  if (md_type == 1) {
    if (length != 24) return std::nullopt;
    s.code = load32(h + 8);
    return s;
  }
  if (md_type != 2) return std::nullopt;
  for (uint32_t at = 8; at + 4 <= length;) {
    const uint32_t size = h[at + 3] & 127, end = at + 4 + (size + 3) / 4 * 4;
    if (end > length) return std::nullopt;
    if (load16(h + at) == kNshFlowIdClass && h[at + 2] == kNshFlowIdType && size == 4) {
      s.code = load32(h + at + 4);
      return s;
    }
    at = end;
  }
  return std::nullopt;  // without a code it is none of ours
}

}  // namespace weir
