// The service maps of an appliance as a data-plane unit needs them: who owns a stream by the map in force, and who did by those before
// it. Made of what the manager says, immutable afterwards. Units with the same maps give the same answers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/address.h"
#include "engine/program.h"
#include "node/place.h"

namespace weir {

struct UnitMap {
  uint32_t version = 0;
  std::vector<Member> members;  // `instance` is an index into UnitMaps::units
};

struct UnitMaps {
  static constexpr uint32_t kMostMaps = 16;
  static constexpr uint16_t kNobody = 0xffff;

  NodePlace own;
  uint16_t own_unit = kNobody;  // index; kNobody where it is not in the appliance any more
  uint32_t epoch = 0;           // a higher one: what this unit knows of streams is over
  uint32_t opened = 0;          // version of the newest map by which streams are opened
  std::vector<NodePlace> dispatchers;
  std::vector<RankedPlace> units;
  std::vector<UnitMap> maps;  // oldest first

  // What is wrong with it, or an empty string. Finds what lookups need.
  std::string check();
  // The unit that has the code by a map; kNobody where it has no member.
  uint16_t owner(size_t map, uint32_t code) const;
  const NodePlace* dispatcher(const Address& address) const;
  // Index of the newest map by which streams are opened.
  size_t newest_opened() const { return newest_opened_; }

 private:
  size_t newest_opened_ = 0;
};

}  // namespace weir
