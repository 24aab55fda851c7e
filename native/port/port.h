// A port moves frames between the outside and a pipeline: it receives batches and sends frames.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "engine/frame.h"

namespace weir {

struct PortCounters {
  uint64_t rx_frames = 0, rx_bytes = 0, rx_dropped = 0;  // rx_dropped: lost by the kernel before we saw them
  uint64_t tx_frames = 0, tx_bytes = 0, tx_errors = 0;
  bool cuts = false;  // super-frames are cut before they reach the device, which can't or won't take them
  bool open = true;   // its interface is there

  void add(const PortCounters& o) {
    rx_frames += o.rx_frames, rx_bytes += o.rx_bytes, rx_dropped += o.rx_dropped;
    tx_frames += o.tx_frames, tx_bytes += o.tx_bytes, tx_errors += o.tx_errors;
    cuts |= o.cuts;
    open &= o.open;
  }
};

class Receiver {
 public:
  virtual ~Receiver() = default;
  // Never more than kMostFrames at a time.
  static constexpr uint32_t kMostFrames = 16;
  virtual void receive(PortId port, std::span<Frame> frames) = 0;
};

class Port {
 public:
  virtual ~Port() = default;
  // What to poll for input.
  virtual std::span<const int> descriptors() const = 0;
  // Hands at most one batch of frames to the receiver. The frames' memory is given back when the NEXT receive() or
  // release() is called, so frames queued by send() may point into it until then. Returns the number of frames.
  virtual uint32_t receive(PortId id, Receiver& receiver) = 0;
  virtual void release() = 0;
  // Queues a frame; flush() hands everything queued to the kernel.
  virtual void send(const OutFrame& frame) = 0;
  virtual void flush() = 0;
  // Whether it takes super-frames of this kind (Offload::kGso…).
  virtual bool carries(uint8_t /*gso*/) const { return false; }
  // When the kernel took the oldest frame of the batch that was received last: CLOCK_REALTIME in ns; 0 where it does not say.
  virtual uint64_t oldest_ns() const { return 0; }
  // Whether other packet sockets of the host see what is sent, which costs some speed.
  virtual void show(bool) {}
  // May be called from any thread.
  virtual PortCounters counters() const = 0;
  // Looks whether its interface is gone; from then on the port receives nothing and what is sent counts as an error. For the thread
  // that receives.
  virtual void look() {}
  // Why the port can't go on; empty while all is well. For the thread that receives.
  virtual std::string failure() const { return {}; }
};

}  // namespace weir
