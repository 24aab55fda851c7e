// One worker's pipeline with what it owns (counters, its hold on the program) and what it shares with the other workers (flow
// table, fragments, the program in force). Whoever calls it (a worker thread, replay, a simulation) passes time and frames in
// and gets frames out; each Engine belongs to one thread.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/pipeline.h"
#include "engine/program_cell.h"
#include "engine/stream_table.h"

namespace weir {

struct EngineLimits {
  uint32_t flows = 1'000'000;
  uint32_t fragments = 4096;  // datagrams whose fragments are being followed
  bool touched = false;       // take the flow table's memory at once
};

// What all workers share.
struct EngineState {
  explicit EngineState(const EngineLimits& limits) : flows(limits.flows ? limits.flows : 1, limits.touched), fragments(limits.fragments) {}
  ProgramCell program;
  FlowTable flows;
  FragmentTable fragments;
};

class Engine {
 public:
  // Alone.
  explicit Engine(const EngineLimits& limits) : Engine(std::make_shared<EngineState>(limits), 0) {}
  // Worker number `worker` (below kMaxWorkers) of several. The first one closes idle streams for all.
  Engine(std::shared_ptr<EngineState> state, uint32_t worker);

  // The program must have passed Program::check(). Takes effect at the next frame.
  void install(std::shared_ptr<const Program> program);
  const Program& program() const { return *program_; }
  EngineState& state() { return *state_; }

  // Runs frames from `port` through at time `now_ns` (any epoch, never going backwards: earlier times count as the
  // latest one seen).
  void process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink);
  void process(uint64_t now_ns, PortId port, Frame& frame, Sink& sink) { process(now_ns, port, {&frame, 1}, sink); }
  // Expires idle streams and fragments, a bounded number a call; call between batches. True when it should be called again soon.
  bool tick(uint64_t now_ns);
  // Before its thread waits for something: the others need not wait for it. The next process() or tick() ends it.
  void pause() { state_->flows.epochs().leave(worker_); }
  // Takes up the program in force, if it is a newer one.
  void refresh();

  Decision describe(const Tuple& tuple) const { return streams_.describe(tuple, now_ns_); }
  FlowView view(const Flow& flow) const { return streams_.view(flow, now_ns_); }
  FlowTable& flows() { return state_->flows; }
  const FlowTable& flows() const { return state_->flows; }
  const Counters& counters() const { return counters_; }
  uint64_t now() const { return now_ns_; }

 private:
  uint64_t now_ns_ = 0;
  const uint32_t worker_;
  std::shared_ptr<EngineState> state_;
  ProgramUse program_;
  Counters counters_;
  StreamTable streams_;
  Pipeline pipeline_;
};

}  // namespace weir
