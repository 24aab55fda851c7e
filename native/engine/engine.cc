#include "engine/engine.h"

#include <algorithm>

namespace weir {
namespace {

constexpr uint32_t kExpiriesPerTick = 64;

}  // namespace

Engine::Engine(const EngineLimits& limits)
    : program_(std::make_shared<Program>()),
      streams_(std::max<uint32_t>(limits.flows, 1), counters_),
      fragments_(limits.fragments),
      pipeline_(counters_, streams_, fragments_) {}

std::shared_ptr<const Program> Engine::install(std::shared_ptr<const Program> program) {
  program_.swap(program);
  return program;
}

void Engine::process(uint64_t now_ns, PortId port, Frame& frame, Sink& sink) {
  now_ns_ = std::max(now_ns_, now_ns);
  if (port != kUnderlayPort && size_t(port - 1) / 2 >= program_->captures.size()) return;
  pipeline_.process(*program_, now_ns_, port, frame, sink);
}

void Engine::tick(uint64_t now_ns) {
  now_ns_ = std::max(now_ns_, now_ns);
  streams_.expire(now_ns_, program_->idle, kExpiriesPerTick);
  for (uint32_t n = fragments_.expire(now_ns_); n; n--) counters_.drop(DropReason::fragment_orphan);
}

}  // namespace weir
