// Geneve (RFC 8926) with the three options that Gateway Load Balancer appliances expect, in their order.
#pragma once
#include <cstdint>
#include <optional>

#include "wire/bytes.h"

namespace weir {

inline constexpr uint16_t kGenevePort = 6081;
inline constexpr uint32_t kGeneveHeader = 8, kGeneveOptions = 32, kGeneveStamp = kGeneveHeader + kGeneveOptions;
inline constexpr uint16_t kGeneveGwlbClass = 0x0108;
inline constexpr uint8_t kGeneveOam = 0x80;  // O bit, in the second byte

struct GeneveStamp {
  uint16_t protocol = 0;  // 0x0800 or 0x86dd
  uint64_t endpoint = 0;
  uint64_t attachment = 0;
  uint32_t cookie = 0;
  bool oam = false;
  uint32_t length = kGeneveStamp;  // header and options, as read
};

inline void write_geneve(uint8_t* p, const GeneveStamp& s) {
  p[0] = kGeneveOptions / 4;
  p[1] = s.oam ? kGeneveOam : 0;
  store16(p + 2, s.protocol);
  store32(p + 4, 0);
  store32(p + 8, uint32_t(kGeneveGwlbClass) << 16 | 0x0102);
  store64(p + 12, s.endpoint);
  store32(p + 20, uint32_t(kGeneveGwlbClass) << 16 | 0x0202);
  store64(p + 24, s.attachment);
  store32(p + 32, uint32_t(kGeneveGwlbClass) << 16 | 0x0301);
  store32(p + 36, s.cookie);
}

inline std::optional<GeneveStamp> read_geneve(const uint8_t* p, uint32_t n) {
  if (n < kGeneveHeader || (p[0] & 0xc0) != 0) return std::nullopt;
  const uint32_t end = kGeneveHeader + uint32_t(p[0] & 63) * 4;
  if (end > n) return std::nullopt;
  GeneveStamp s;
  s.protocol = load16(p + 2);
  s.oam = p[1] & kGeneveOam;
  s.length = end;
  unsigned seen = 0;
  for (uint32_t at = kGeneveHeader; at + 4 <= end;) {
    const uint32_t size = uint32_t(p[at + 3] & 31) * 4;
    if (at + 4 + size > end) return std::nullopt;
    if (load16(p + at) == kGeneveGwlbClass) {
      const uint8_t* data = p + at + 4;
      if (p[at + 2] == 1 && size == 8) s.endpoint = load64(data), seen |= 1;
      if (p[at + 2] == 2 && size == 8) s.attachment = load64(data), seen |= 2;
      if (p[at + 2] == 3 && size == 4) s.cookie = load32(data), seen |= 4;
    }
    at += 4 + size;
  }
  if (seen != 7) return std::nullopt;
  return s;
}

// What weir puts into the attachment: path, hop and direction.
inline constexpr uint64_t geneve_attachment(uint32_t spi, uint8_t si, bool answer) { return uint64_t(spi) << 16 | uint64_t(si) << 8 | (answer ? 1 : 0); }

}  // namespace weir
