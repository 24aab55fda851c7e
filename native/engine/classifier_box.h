// A rule's conditions as a box: a closed interval in each of eight dimensions. Groups of rules have boxes too.
#pragma once
#include <algorithm>
#include <cstdint>

namespace weir {

// Values are 0..65535, but for addresses, which are ranks (AddressRanks) and below 2^31.
enum Dimension : uint32_t {
  kSourceAddress,
  kDestinationAddress,
  kSourcePort,
  kDestinationPort,
  kProtocol,  // code of protocol_code(), not the number itself
  kDirection,
  kCapture,
  kVlan,
  kDimensions
};
inline constexpr uint32_t kWideDimensions = 2;  // the addresses

struct Point {
  int32_t at[kDimensions];
};

struct alignas(64) Box {
  int32_t low[kDimensions], high[kDimensions];

  void grow(const Box& other) {
    for (uint32_t d = 0; d < kDimensions; d++) low[d] = std::min(low[d], other.low[d]), high[d] = std::max(high[d], other.high[d]);
  }
  void clip(const Box& region) {
    for (uint32_t d = 0; d < kDimensions; d++) low[d] = std::max(low[d], region.low[d]), high[d] = std::min(high[d], region.high[d]);
  }
  bool covers(const Box& other) const {
    for (uint32_t d = 0; d < kDimensions; d++)
      if (low[d] > other.low[d] || high[d] < other.high[d]) return false;
    return true;
  }
  bool empty() const {
    for (uint32_t d = 0; d < kDimensions; d++)
      if (low[d] > high[d]) return true;
    return false;
  }
};
static_assert(sizeof(Box) == 64);

}  // namespace weir
