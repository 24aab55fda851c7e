// Replay: a capture through the pipeline, with instances that do what `weir node --function pass` does. Everything happens at
// the time of the record that caused it, so the same capture and configuration give the same bytes.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "port/capture_file.h"
#include "port/capture_writer.h"

namespace weir {

struct Prefix {
  Address address;
  uint32_t length = 0;  // of 128
};

struct ReplayFiles {
  std::string read, write, out;  // write and out may be empty
  std::vector<Prefix> workload;
};

struct ReplayProgress {
  uint64_t packets = 0, bytes_read = 0, bytes_total = 0;
  uint64_t unusable = 0;  // no Ethernet frame or IP packet in it
  bool done = false;
  std::string error;
};

class Replay final : Sink {
 public:
  Replay(const EngineLimits& limits, std::shared_ptr<const Program> program);
  std::string open(const ReplayFiles& files);
  const ReplayProgress& step(uint32_t packets);
  // Empty when both files are whole on disk.
  std::string close();
  const Engine& engine() const { return engine_; }

 private:
  // Which of capture 0's ports a frame came in by.
  PortId port_of(const CaptureRecord& record);
  bool from_workload(const Address& address) const;
  // Reads the next records and lets the engine look at them. False at the end.
  bool read_ahead();
  void run(uint32_t number);
  // Whether the instance that a stamped frame goes to keeps it.
  bool ends_there(const Frame& frame, const StampedFrame& outer) const;
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override;
  bool through_proxied(PortId port, Frame& frame, PortId& back);

  Engine engine_;
  OuterReassembly at_instances_;
  ScratchArena arena_;  // of one captured frame and all that it becomes
  CaptureReader reader_;
  CaptureWriter stamped_, final_;
  // Those read ahead, of which the first at_ have been handled.
  std::array<CaptureRecord, Pipeline::kGroup> records_;
  std::array<Frame, Pipeline::kGroup> frames_;
  std::array<PortId, Pipeline::kGroup> ports_;
  uint32_t at_ = 0, in_hand_ = 0;
  uint64_t now_ns_ = 0;
  class Network {
   public:
    Network(const Prefix& prefix);
    bool has(const Address& a) const;

   private:
    uint64_t address_[2], mask_[2];
  };
  std::vector<Network> workload_;
  // Who sent first between two addresses: that one is the workload. Bounded; when full it starts anew.
  struct PairHash {
    size_t operator()(const std::array<Address, 2>& pair) const;
  };
  std::unordered_map<std::array<Address, 2>, bool, PairHash> first_is_lesser_;
  bool have_workload_mac_ = false;
  uint8_t workload_mac_[6] = {};
  struct Back {
    PortId port;
    Frame frame;
  };
  std::vector<Back> returned_;  // what instances have sent back, in order; the first `taken_` have been handled
  size_t taken_ = 0;
  uint64_t ticked_ns_ = 0;
  ReplayProgress progress_;
};

}  // namespace weir
