// Weighted rendezvous hashing: every instance of a service draws a score from (code, its own seed); the lowest is the
// primary, the next the secondary. It needs no table, is the same on every member that has the same list, moves only the
// codes of an instance that goes (each to its secondary) and only what a new one wins. See docs/service-map.md.
#pragma once
#include <cstdint>
#include <span>

#include "engine/program.h"

namespace weir {

// -log2 of a 32-bit fraction, 8.24 fixed point: an exponentially distributed draw.
uint32_t negative_log2(uint32_t h);
uint64_t rendezvous_score(uint32_t code, const Instance& instance);

// Writes the best instances' ids, best first, into `ranked`; returns how many. `usable` filters.
uint32_t rank_instances(const Program& program, const Service& service, uint32_t code, bool (*usable)(const Instance&),
                        std::span<uint16_t> ranked);

// The primary among those that may get new streams, or kNoInstance.
uint16_t choose_instance(const Program& program, const Service& service, uint32_t code);

}  // namespace weir
