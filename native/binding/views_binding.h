// Counters, streams and decisions as JavaScript objects; tuples and options from them.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/decision.h"
#include "engine/engine.h"
#include "engine/latency.h"
#include "port/port.h"

namespace weir {

struct PortView {
  PortId port;
  std::string interface;
  PortCounters counters;
};

struct WorkerView {
  const Counters* counters;
  PortCounters ports;  // of all its ports
  uint64_t turns, cpu_ns;
  const Latency *group, *transit;
};

Napi::Object traffic_to_js(Napi::Env env, const Traffic& traffic);

// Of the tables that all workers share.
struct TableView {
  uint32_t capacity = 0;  // streams
  uint32_t held = 0;      // fragments that wait for their first one
};

Napi::Object port_to_js(Napi::Env env, const PortView& port);
// Sums over the workers' counters.
Napi::Object counters_to_js(Napi::Env env, const std::vector<const Counters*>& workers, const TableView& tables, const Program& program, const std::vector<PortView>& ports,
                            const std::vector<WorkerView>& threads = {});

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
