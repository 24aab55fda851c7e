#include "engine/engine.h"

#include <algorithm>

namespace weir {

Engine::Engine(std::shared_ptr<EngineState> state, uint32_t worker)
    : worker_(worker),
      state_(std::move(state)),
      program_(state_->program),
      streams_(state_->flows, program_, counters_),
      pipeline_(program_, counters_, streams_, state_->fragments) {}

void Engine::install(std::shared_ptr<const Program> program) {
  state_->program.install(std::move(program));
  refresh();
  state_->program.collect();
}

void Engine::refresh() {
  program_.refresh();
  program_.settle();
}

void Engine::process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink) {
  now_ns_ = std::max(now_ns_, now_ns);
  while (!frames.empty()) {
    state_->flows.epochs().pass(worker_);
    refresh();
    if (port != kUnderlayPort && size_t(port - 1) / 2 >= program_->captures.size()) return;
    const size_t n = std::min<size_t>(frames.size(), Pipeline::kGroup);
    pipeline_.process(now_ns_, port, frames.first(n), sink);
    frames = frames.subspan(n);
  }
}

bool Engine::tick(uint64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (worker_ != 0) return false;
  state_->flows.epochs().pass(worker_);
  refresh();
  const bool behind = streams_.expire(now_ns_);
  for (uint32_t n = state_->fragments.expire(now_ns_); n; n--) counters_.drop(DropReason::fragment_orphan);
  return behind;
}

}  // namespace weir
