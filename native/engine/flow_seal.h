// Tells a whole entry from a torn or damaged one: 16 bits over what decides where a stream goes. Its address half is covered by
// the code, which is a keyed hash of it; times and counts may be anything. Not against forgers: the file is its owner's alone.
#pragma once
#include <cstdint>

#include "engine/flow.h"

namespace weir {

inline constexpr uint32_t kFarPins = kMaxHops - Route::kInlinePins;

// `far_pins`: those past the inline ones; read only as far as the route has hops.
inline uint16_t flow_seal(const Flow& flow, const uint16_t* far_pins) {
  auto mix = [](uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15;
    return h ^ h >> 29;
  };
  const uint32_t hops = flow.hops;
  uint64_t h = mix(flow.code, flow.key.vlans);
  h = mix(h, flow.pins);
  h = mix(h, uint64_t(flow.path) << 32 | flow.policy);
  h = mix(h, uint64_t(flow.capture) << 32 | hops << 8 | uint32_t(flow.action) << 4 | uint32_t(flow.opened) << 1 | flow.opener_is_a);
  for (uint32_t i = Route::kInlinePins; i < hops && i < kMaxHops; i++) h = mix(h, far_pins[i - Route::kInlinePins]);
  return uint16_t(h >> 48 ^ h >> 24);
}

}  // namespace weir
