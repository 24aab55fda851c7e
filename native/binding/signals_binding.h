// What health and load are judged by, in rows of plain numbers: it is asked for many times a second.
#pragma once
#include <napi.h>

#include <vector>

#include "engine/counters.h"
#include "engine/probes.h"

namespace weir {

// Rows of id, streams, sent packets and bytes, received packets and bytes, unreachable, streams placed: sums over the workers;
// and when a router said last that the way carries less, in microseconds of the engine's clock, and how much.
Napi::Value signals_to_js(Napi::Env env, const std::vector<const Counters*>& workers, const Program& program);
// Rows of id, answered in a row, lost in a row, sent, answered, refused, late, latency in ms.
Napi::Value probes_to_js(Napi::Env env, const std::vector<ProbeRow>& rows);

}  // namespace weir
