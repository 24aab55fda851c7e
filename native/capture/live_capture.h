// `weir capture`: stamped frames of some instances, seen on the underlay, into a capture file. Runs on a thread of its own in a
// process of its own; what it can't keep up with the kernel's ring drops and counts.
#pragma once
#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "capture/live_writer.h"
#include "capture/packet_filter.h"
#include "capture/tap_ring.h"
#include "engine/counters.h"
#include "engine/frame_collector.h"
#include "engine/outer_reassembly.h"

namespace weir {

struct LiveCaptureOptions {
  std::string interface;
  std::vector<std::string> addresses;  // of the instances, on the underlay
  enum class Direction : uint8_t { both, to, from } direction = Direction::both;
  std::string filter;        // on what is written; empty: all
  std::string inner_filter;  // on the packet inside; empty: all
  bool inner = false;        // write the packets inside
  bool whole = false;        // leave super-frames as the kernel has them
  std::string write;         // path, or - for standard output
  uint32_t snaplen = 262144;
  uint64_t count = 0;        // packets to write; 0: no end
  uint32_t megabytes = 32;   // of the kernel's ring
};

struct LiveCaptureCounters {
  Counter frames;    // seen, super-frames as one
  Counter packets;   // written
  Counter bytes;     // of them, without file headers
  Counter filtered;  // left out by a filter
  Counter unread;    // without a stamp that can be read, where the packet inside is wanted
};

class LiveCapture {
 public:
  // Empty when all is open, else what failed.
  std::string open(const LiveCaptureOptions& options);
  ~LiveCapture();
  // `finished` is called on the thread as the last thing, with the reason or an empty string after stop() or `count` packets.
  void start(std::function<void(std::string)> finished);
  void stop() { stopping_.store(true, std::memory_order_release); }
  void join();
  const LiveCaptureCounters& counters() const { return counters_; }
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  std::string run();
  void take(TappedFrame& tapped);
  void take_one(uint64_t time_ns, const uint8_t* bytes, uint32_t length, uint32_t wire_length);
  // The packet behind the stamp as an Ethernet frame; empty where there is none.
  std::span<const uint8_t> inner_of(const uint8_t* bytes, uint32_t length);
  bool done() const { return options_.count && counters_.packets.get() >= options_.count; }

  LiveCaptureOptions options_;
  TapRing ring_;
  PacketFilter kernel_;
  std::optional<PacketFilter> filter_, inner_filter_;
  LiveWriter writer_;
  FrameCollector cut_;
  OuterReassembly reassembly_;  // of datagrams whose inner packet is asked for
  FrameCollector fragments_;
  std::vector<uint8_t> inner_;
  LiveCaptureCounters counters_;
  std::atomic<uint64_t> dropped_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace weir
