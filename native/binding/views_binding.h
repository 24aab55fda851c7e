// Counters, streams and decisions as JavaScript objects; tuples and options from them.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/decision.h"
#include "engine/engine.h"
#include "port/port.h"

namespace weir {

struct PortView {
  PortId port;
  std::string interface;
  PortCounters counters;
};

Napi::Object port_to_js(Napi::Env env, const PortView& port);
// Sums over the workers' counters.
Napi::Object counters_to_js(Napi::Env env, const std::vector<const Counters*>& workers, uint32_t capacity, const Program& program, const std::vector<PortView>& ports);

struct FlowPage {
  std::vector<FlowView> flows;
  int64_t next = -1;
};
// Copies up to `max` live streams from entry number `cursor` on, looking at no more than 16 entries for each.
FlowPage list_flows(const Engine& engine, uint32_t cursor, uint32_t max);
Napi::Object flows_to_js(Napi::Env env, const FlowPage& page);
Napi::Object decision_to_js(Napi::Env env, const Decision& decision);
Tuple read_tuple(Napi::Object object, const Program& program, std::string& error);
EngineLimits read_limits(Napi::Object options, std::string& error);

}  // namespace weir
