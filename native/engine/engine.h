// One pipeline with the state it owns: flow table, fragments, counters, the program in force. Single-threaded: whoever
// calls it (a worker thread, replay, a simulation) passes time and frames in and gets frames out.
#pragma once
#include <cstdint>
#include <memory>

#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/pipeline.h"
#include "engine/program.h"
#include "engine/stream_table.h"

namespace weir {

struct EngineLimits {
  uint32_t flows = 1'000'000;
  uint32_t fragments = 4096;  // datagrams whose fragments are being followed
};

class Engine {
 public:
  explicit Engine(const EngineLimits& limits);

  // The program must have passed Program::check(). Takes effect at the next frame; gives the former one back.
  std::shared_ptr<const Program> install(std::shared_ptr<const Program> program);
  const Program& program() const { return *program_; }

  // Runs one frame from `port` through at time `now_ns` (any epoch, never going backwards: earlier times count as the
  // latest one seen).
  void process(uint64_t now_ns, PortId port, Frame& frame, Sink& sink);
  // Expires idle streams and fragments, a bounded number a call; call between batches.
  void tick(uint64_t now_ns);

  Decision describe(const Tuple& tuple) const { return streams_.describe(*program_, tuple, now_ns_); }
  FlowView view(const Flow& flow) const { return streams_.view(*program_, flow, now_ns_); }
  const FlowTable& flows() const { return streams_.table(); }
  const Counters& counters() const { return counters_; }
  uint64_t now() const { return now_ns_; }

 private:
  uint64_t now_ns_ = 0;
  std::shared_ptr<const Program> program_;
  Counters counters_;
  StreamTable streams_;
  FragmentTable fragments_;
  Pipeline pipeline_;
};

}  // namespace weir
