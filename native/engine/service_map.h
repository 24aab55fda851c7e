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
uint64_t rendezvous_score(uint32_t code, const uint32_t (&seed)[2], uint32_t weight);
inline uint64_t rendezvous_score(uint32_t code, const Instance& instance) { return rendezvous_score(code, instance.seed, instance.weight); }

// Writes the best instances' ids, best first, into `ranked`; returns how many. `usable` filters.
uint32_t rank_instances(const Program& program, const Service& service, uint32_t code, bool (*usable)(const Instance&),
                        std::span<uint16_t> ranked);

// The primary among those that may get new streams, or kNoInstance.
uint16_t choose_instance(const Program& program, const Service& service, uint32_t code);

// Who serves a code: of those in the lowest tier, which come first, the one with the lowest score; of two with the same score, the
// first. Null where nobody is left. `seed_of` gives a member's seed.
template <typename SeedOf>
const Member* first_member(std::span<const Member> members, uint32_t code, SeedOf seed_of) {
  const Member* best = nullptr;
  uint64_t lowest = ~uint64_t(0);
  for (const Member& m : members) {
    if (m.tier != members[0].tier) break;
    const uint64_t score = rendezvous_score(code, seed_of(m), m.weight);
    if (score >= lowest) continue;
    lowest = score;
    best = &m;
  }
  return best;
}

// The primary among a path's members: kNoInstance where none is left. Whether it can be reached is not asked: everybody has to
// find the same one.
uint16_t choose_member(const Program& program, const Path& path, uint32_t position, uint32_t code);

}  // namespace weir
