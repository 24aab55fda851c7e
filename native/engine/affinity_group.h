// The affinity hashes of several streams at a time. One hash is a chain of operations that each wait for the one before, so eight side
// by side in vectors take little more time than one.
#pragma once
#include <cstdint>

#include "engine/flow_key.h"

namespace weir {

inline constexpr uint32_t kHashLanes = 8;

// affinity_hash(key, *keys[i], five_tuple) for i < n; n <= kHashLanes.
void affinity_hashes(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]);

}  // namespace weir
