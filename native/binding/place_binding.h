// Places on the underlay and who serves there, from JavaScript.
#pragma once
#include <vector>

#include "binding/convert.h"
#include "engine/program.h"
#include "node/place.h"

namespace weir {

// {address, mac: string | null}
inline NodePlace read_place(Reader r) {
  NodePlace place;
  place.address = r.address("address");
  place.resolved = !r.null("mac");
  if (place.resolved) place.mac = r.mac("mac");
  return place;
}

// The same with `seed`, two numbers.
inline RankedPlace read_ranked_place(Reader r) {
  RankedPlace ranked{read_place(r)};
  const std::vector<uint32_t> seed = r.numbers("seed");
  if (seed.size() != 2) return r.fail("seed", "two 32-bit numbers"), ranked;
  ranked.seed[0] = seed[0];
  ranked.seed[1] = seed[1];
  return ranked;
}

// `members`: [index, weight, …]; with tiers: [index, weight, tier, …]
inline std::vector<Member> read_members(Reader r, bool tiers = false) {
  std::vector<Member> members;
  const std::vector<uint32_t> row = r.numbers("members");
  const size_t columns = tiers ? 3 : 2;
  if (row.size() % columns) r.fail("members", tiers ? "an index, a weight and a tier each" : "an index and a weight each");
  for (size_t i = 0; i + columns <= row.size(); i += columns) {
    const uint32_t tier = tiers ? row[i + 2] : 0;
    if (row[i] > 65535 || row[i + 1] > 65535 || tier > 65535) r.fail("members", "indices, weights and tiers up to 65535");
    members.push_back({uint16_t(row[i]), uint16_t(row[i + 1]), uint16_t(tier)});
  }
  return members;
}

}  // namespace weir
