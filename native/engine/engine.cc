#include "engine/engine.h"

#include <algorithm>

namespace weir {

Engine::Engine(std::shared_ptr<EngineState> state, uint32_t worker, const CounterRows& counters)
    : worker_(worker),
      state_(std::move(state)),
      program_(state_->program),
      counters_(counters),
      streams_(state_->flows, program_, counters_, state_->alone),
      pipeline_(program_, counters_, streams_, {state_->fragments, state_->reassembly, state_->fragment_ids}, state_->tagged_links, state_->probes) {}

void Engine::install(std::shared_ptr<const Program> program) {
  state_->program.install(std::move(program));
  refresh();
  state_->program.collect();
}

void Engine::refresh() {
  program_.refresh();
  program_.settle();
}

Adoption Engine::adopt(uint64_t now_ns, std::span<const uint32_t> tenants) {
  refresh();
  return adopt_flows(state_->flows, {*program_, program_.sequence(), now_ns, tenants}, counters_);
}

void Engine::forget_streams(const Program& program) {
  counters_.streams_active.reset();
  for (const Path& path : program.paths) counters_.path_streams[path.id].reset();
  for (const Instance& instance : program.instances) counters_.instances[instance.id].streams.reset();
}

void Engine::process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink) {
  now_ns_ = std::max(now_ns_, now_ns);
  while (!frames.empty()) {
    state_->flows.epochs().pass(worker_);
    refresh();
    if (port >= program_->port_count()) return;
    const size_t n = std::min<size_t>(frames.size(), Pipeline::kGroup);
    pipeline_.process(now_ns_, port, frames.first(n), sink);
    frames = frames.subspan(n);
  }
}

void Engine::look_ahead(std::span<Frame> frames, std::span<const PortId> ports) {
  state_->flows.epochs().pass(worker_);
  refresh();
  if (program_->captures.empty()) return;
  pipeline_.look_ahead(frames, ports);
}

void Engine::process_ahead(uint64_t now_ns, PortId port, uint32_t number, Frame& frame, Sink& sink) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (size_t(port - 1) / 2 >= program_->captures.size()) return;
  pipeline_.process_ahead(now_ns_, port, number, frame, sink);
}

bool Engine::tick(uint64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (worker_ != 0) return false;
  state_->flows.epochs().pass(worker_);
  refresh();
  const bool behind = streams_.expire(now_ns_);
  for (uint32_t n = state_->fragments.expire(now_ns_); n; n--) counters_.drop(DropReason::fragment_orphan);
  pipeline_.expire_fragments(now_ns_);
  return behind;
}

bool Engine::probe(uint64_t now_ns, Sink& sink) {
  now_ns_ = std::max(now_ns_, now_ns);
  return state_->probes.run(now_ns_, *program_, program_.sequence(), sink);
}

}  // namespace weir
