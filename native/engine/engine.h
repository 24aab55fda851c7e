// One worker's pipeline with what it owns (counters, its hold on the program) and what it shares with the other workers (flow
// table, fragments, the program in force). Whoever calls it (a worker thread, replay, a simulation) passes time and frames in
// and gets frames out; each Engine belongs to one thread.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "engine/counters.h"
#include "engine/decision.h"
#include "engine/flow_adoption.h"
#include "engine/flow_file.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/outer_reassembly.h"
#include "engine/pipeline.h"
#include "engine/probes.h"
#include "engine/program_cell.h"
#include "engine/stream_table.h"

namespace weir {

struct EngineLimits {
  uint32_t flows = 1'000'000;
  uint32_t fragments = 4096;  // datagrams whose fragments are being followed
  bool touched = false;       // take the flow table's memory at once
  CounterRows counters;       // of an engine that is alone
  std::shared_ptr<FlowFile> file;  // memory of the flow table that outlives the process; null: memory of its own
};

// What all workers share.
struct EngineState {
  // `alone`: there will never be a second worker.
  explicit EngineState(const EngineLimits& limits, bool alone = false)
      : file(limits.file), flows(limits.flows ? limits.flows : 1, limits.touched, file.get()), fragments(limits.fragments), alone(alone) {}
  const std::shared_ptr<FlowFile> file;
  ProgramCell program;
  FlowTable flows;
  FragmentTable fragments;
  OuterReassembly reassembly;
  FragmentIds fragment_ids;
  TaggedLinks tagged_links;
  Probes probes;
  const bool alone;
};

class Engine {
 public:
  // Alone.
  explicit Engine(const EngineLimits& limits) : Engine(std::make_shared<EngineState>(limits, true), 0, limits.counters) {}
  // Worker number `worker` (below kMaxWorkers) of several. The first one closes idle streams for all.
  Engine(std::shared_ptr<EngineState> state, uint32_t worker, const CounterRows& counters = {});

  // The program must have passed Program::check(). Takes effect at the next frame.
  void install(std::shared_ptr<const Program> program);
  const Program& program() const { return *program_; }
  EngineState& state() { return *state_; }

  // Takes over what the flow table's file holds; `tenants` of the captures that are what they were. Once a program is installed,
  // and before the first frame of any worker.
  Adoption adopt(uint64_t now_ns, std::span<const uint32_t> tenants);

  // Sets the counts of live streams back, before the table is adopted once more.
  void forget_streams(const Program& program);

  // Runs frames from `port` through at time `now_ns` (any epoch, never going backwards: earlier times count as the
  // latest one seen).
  void process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink);
  void process(uint64_t now_ns, PortId port, Frame& frame, Sink& sink) { process(now_ns, port, {&frame, 1}, sink); }
  // At most Pipeline::kGroup frames, frames[i] from ports[i], which will come one after another: read, and their streams fetched. Each
  // is then run through by process_ahead(), in order; in between anything but another program may come.
  void look_ahead(std::span<Frame> frames, std::span<const PortId> ports);
  void process_ahead(uint64_t now_ns, PortId port, uint32_t number, Frame& frame, Sink& sink);
  // Expires idle streams and fragments, a bounded number a call; call between batches. True when it should be called again soon.
  bool tick(uint64_t now_ns);
  // Sends the health probes that are due; for the first worker, after tick(). True if it emitted any.
  bool probe(uint64_t now_ns, Sink& sink);
  Probes& probes() { return state_->probes; }
  // Before its thread waits for something: the others need not wait for it. The next process() or tick() ends it.
  void pause() { state_->flows.epochs().leave(worker_); }
  // Takes up the program in force, if it is a newer one.
  void refresh();

  Decision describe(const Tuple& tuple) const { return streams_.describe(tuple, now_ns_); }
  FlowView view(const Flow& flow) const { return streams_.view(flow, now_ns_); }
  FlowTable& flows() { return state_->flows; }
  const FlowTable& flows() const { return state_->flows; }
  uint32_t fragments_held() const { return state_->fragments.held(); }
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
