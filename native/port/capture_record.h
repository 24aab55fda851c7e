// One record of a capture, as an Ethernet frame whatever the link type.
#pragma once
#include <cstdint>

#include "engine/frame.h"

namespace weir {

struct CaptureRecord {
  // Records are handled in order: the headroom before a frame may hold what is left of the records before it.
  Frame frame;
  uint64_t time_ns = 0;
  // For packets without an Ethernet header, which direction the capture itself names: 1 sent by its host, 0 received, -1 unknown.
  int sent_by_host = -1;
  bool usable = false;  // there is an Ethernet frame or an IP packet in it
};

inline constexpr uint32_t kRecordHeadroom = 192;
inline constexpr uint32_t kLongestRecord = 262144;  // libpcap's own limit

// Times before 1970 or absurd ones count as 0.
inline uint64_t record_time_ns(int64_t seconds, int64_t fraction) {
  constexpr int64_t kLastSecond = 17'000'000'000;  // fits 64-bit nanoseconds
  if (seconds < 0 || seconds > kLastSecond || fraction < 0 || fraction > 999'999'999) return 0;
  return uint64_t(seconds) * 1'000'000'000 + uint64_t(fraction);
}

}  // namespace weir
