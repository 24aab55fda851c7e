// What network cards call interrupt moderation: a lone frame wakes its thread at once, but while frames come by the hundred
// thousand a second the thread looks for them a little later, and finds batches.
#pragma once
#include <sys/prctl.h>
#include <time.h>

#include <cstdint>

namespace weir {

class Moderation {
 public:
  // To be called in the thread that will nap: the kernel rounds the sleeps of others up by 50 µs.
  static void prepare_thread() { prctl(PR_SET_TIMERSLACK, 1000); }

  void add(uint32_t frames) {
    frames_ += frames;
    if (frames) napped_ = false;
  }
  // Called when no frame waits. True: napped, so look again. Sleeping in earnest, so that the next frame wakes, is for after a nap in
  // which none came: whoever sends a frame to a thread that sleeps so pays for waking it.
  bool nap(uint64_t now_ns) {
    if (now_ns - since_ns_ >= kWindowNs) {
      busy_ = uint64_t(frames_) * kWindowNs >= kBusyFrames * (now_ns - since_ns_);
      frames_ = 0;
      since_ns_ = now_ns;
    }
    if (!busy_ || napped_) return napped_ = false;
    const timespec t{0, kNapNs};
    nanosleep(&t, nullptr);
    return napped_ = true;
  }

 private:
  static constexpr uint64_t kWindowNs = 1'000'000;
  static constexpr uint64_t kBusyFrames = 100;  // in a window
  static constexpr long kNapNs = 100'000;

  uint64_t since_ns_ = 0;
  uint32_t frames_ = 0;
  bool busy_ = false, napped_ = false;
};

}  // namespace weir
