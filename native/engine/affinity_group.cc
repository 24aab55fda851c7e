#include "engine/affinity_group.h"

#include <cstring>

namespace weir {
namespace {

#if defined(__x86_64__)
// Two vectors of four: vectors of 512 bits would lower the clock of some processors.
typedef uint64_t Lanes __attribute__((vector_size(32)));
constexpr uint32_t kLanes = sizeof(Lanes) / sizeof(uint64_t);
static_assert(kHashLanes == 2 * kLanes);

[[gnu::always_inline]] inline void hash_lanes(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]) {
  uint64_t words[AffinityWords::kCount][kHashLanes];
  for (uint32_t i = 0; i < kHashLanes; i++) {
    const AffinityWords message(*keys[i < n ? i : 0], Affinity::five_tuple);
    for (uint32_t w = 0; w < AffinityWords::kCount; w++) words[w][i] = message.words[w];
  }
  SipHash24<Lanes> first(key), second(key);
  Lanes a, b;
  for (const uint64_t(&word)[kHashLanes] : words) {
    std::memcpy(&a, word, sizeof a);
    std::memcpy(&b, word + kLanes, sizeof b);
    first.add(a);
    second.add(b);
  }
  first.finish(a);
  second.finish(b);
  uint64_t all[kHashLanes];
  std::memcpy(all, &a, sizeof a);
  std::memcpy(all + kLanes, &b, sizeof b);
  std::memcpy(hashes, all, n * sizeof hashes[0]);
}

[[gnu::target("avx512f,avx512vl")]] void hash_avx512(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]) {
  hash_lanes(key, keys, n, hashes);
}
[[gnu::target("avx2")]] void hash_avx2(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]) {
  hash_lanes(key, keys, n, hashes);
}
#endif

void hash_singly(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]) {
  for (uint32_t i = 0; i < n; i++) hashes[i] = affinity_hash(key, *keys[i], Affinity::five_tuple);
}

using Hasher = decltype(&hash_singly);

Hasher best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vl")) return hash_avx512;
  if (__builtin_cpu_supports("avx2")) return hash_avx2;
#endif
  return hash_singly;
}

const Hasher kBest = best();

}  // namespace

void affinity_hashes(const uint64_t key[2], const FlowKey* const keys[], uint32_t n, uint64_t hashes[]) {
  constexpr uint32_t kFew = 2;  // for so many the vectors do not pay
  (n <= kFew ? hash_singly : kBest)(key, keys, n, hashes);
}

}  // namespace weir
