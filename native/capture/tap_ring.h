// A packet socket that only watches an interface: what passes in both directions, chosen by a filter in the kernel, each frame
// with its time and offload state. Full, it loses frames and counts them; it holds nobody up.
#pragma once
#include <linux/filter.h>
#include <linux/if_packet.h>

#include <cstdint>
#include <functional>
#include <string>

#include "engine/frame.h"

namespace weir {

struct TappedFrame {
  Frame frame;
  uint64_t time_ns = 0;   // CLOCK_REALTIME
  bool outgoing = false;  // sent by this host
};

class TapRing {
 public:
  using Take = std::function<void(TappedFrame&)>;

  TapRing() = default;
  TapRing(const TapRing&) = delete;
  TapRing& operator=(const TapRing&) = delete;
  ~TapRing();

  // Needs CAP_NET_RAW. Empty when it opened, else what failed and why.
  std::string open(const std::string& interface, const sock_fprog& filter, uint32_t megabytes);
  int descriptor() const { return fd_; }
  bool loopback() const { return loopback_; }
  // Hands over the frames of one block; `take` may write to them and keeps none. Their number, 0 where no block is ready.
  uint32_t receive(const Take& take);
  // Lost since the last call because the ring was full. From any thread.
  uint64_t dropped() const;
  // Why it can't go on; empty while all is well.
  std::string failure() const;

 private:
  static constexpr uint32_t kBlockBytes = 1 << 20;  // holds some super-frames of 64 KiB
  int fd_ = -1;
  bool loopback_ = false;
  std::string interface_;
  uint8_t* map_ = nullptr;
  size_t map_bytes_ = 0;
  uint32_t blocks_ = 0, block_ = 0;
};

}  // namespace weir
