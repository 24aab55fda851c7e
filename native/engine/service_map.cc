#include "engine/service_map.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace weir {
namespace {

// MurmurHash3's 32-bit finalizer.
uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x85ebca6b;
  h ^= h >> 13;
  h *= 0xc2b2ae35;
  h ^= h >> 16;
  return h;
}

// log2(1 + i/256) * 2^24, rounded: far enough from a half everywhere that every libm gives the same table.
const std::array<uint32_t, 257> kLog2 = [] {
  std::array<uint32_t, 257> table{};
  for (uint32_t i = 0; i <= 256; i++) table[i] = uint32_t(std::lround(std::log2(1 + i / 256.0) * 16777216));
  return table;
}();

}  // namespace

uint32_t negative_log2(uint32_t h) {
  if (h == 0) h = 1;
  const uint32_t exponent = 31 - uint32_t(std::countl_zero(h));
  const uint32_t mantissa = h << (31 - exponent);
  const uint32_t i = mantissa >> 23 & 255, rest = mantissa & 0x7fffff;
  const uint32_t fraction = kLog2[i] + uint32_t(uint64_t(kLog2[i + 1] - kLog2[i]) * rest >> 23);
  return (32u << 24) - ((exponent << 24) + fraction);
}

uint64_t rendezvous_score(uint32_t code, const uint32_t (&seed)[2], uint32_t weight) {
  const uint32_t h = mix(mix(code ^ seed[0]) + seed[1]);
  return (uint64_t(negative_log2(h)) << 16) / weight;
}

uint32_t rank_instances(const Program& program, const Service& service, uint32_t code, bool (*usable)(const Instance&),
                        std::span<uint16_t> ranked) {
  struct Entry {
    uint64_t score;
    uint16_t id;
    bool operator<(const Entry& o) const { return score != o.score ? score < o.score : id < o.id; }
  };
  std::array<Entry, 8> best;
  const uint32_t room = uint32_t(std::min<size_t>(ranked.size(), best.size()));
  uint32_t n = 0;
  for (const uint16_t index : service.instances) {
    const Instance& instance = program.instances[index];
    if (!usable(instance)) continue;
    const Entry entry{rendezvous_score(code, instance), instance.id};
    uint32_t at = n < room ? n++ : room;
    if (at == room) {
      if (!(entry < best[room - 1])) continue;
      at = room - 1;
    }
    for (; at > 0 && entry < best[at - 1]; at--) best[at] = best[at - 1];
    best[at] = entry;
  }
  for (uint32_t i = 0; i < n; i++) ranked[i] = best[i].id;
  return n;
}

uint16_t choose_instance(const Program& program, const Service& service, uint32_t code) {
  uint16_t id = kNoInstance;
  rank_instances(program, service, code, [](const Instance& i) { return i.usable_for_new(); }, {&id, 1});
  return id;
}

uint16_t choose_member(const Program& program, const Path& path, uint32_t position, uint32_t code) {
  const Member* best = first_member(path.members[position], code, [&](const Member& m) -> const uint32_t(&)[2] { return program.instances[m.instance].seed; });
  return best ? program.instances[best->instance].id : kNoInstance;
}

}  // namespace weir
