#include "node/unit_maps.h"

#include "engine/service_map.h"

namespace weir {

std::string UnitMaps::check() {
  if (maps.empty() || maps.size() > kMostMaps) return "there is no map, or more than 16";
  bool found = false;
  for (size_t i = 0; i < maps.size(); i++) {
    const std::string who = "map " + std::to_string(maps[i].version);
    if (maps[i].version == 0 || (i > 0 && maps[i].version <= maps[i - 1].version)) return "versions of maps go up and begin with 1";
    for (const Member& m : maps[i].members)
      if (m.instance >= units.size() || m.weight == 0) return who + " has a member that is not there";
    if (maps[i].version == opened) newest_opened_ = i, found = true;
  }
  // Marks on packets have 255 values, and one may be older or newer than all maps here.
  if (maps.back().version - maps.front().version >= 100) return "the oldest map is too old beside the newest";
  if (!found) return "the opened map is not there";
  for (size_t i = 0; i < units.size(); i++)
    for (size_t j = 0; j < i; j++)
      if (units[i].place.address == units[j].place.address) return "two units have one address";
  if (own_unit != kNobody && (own_unit >= units.size() || units[own_unit].place.address != own.address)) return "this unit is not where it says";
  return {};
}

uint16_t UnitMaps::owner(size_t map, uint32_t code) const {
  const Member* best = first_member(maps[map].members, code, [&](const Member& m) -> const uint32_t(&)[2] { return units[m.instance].seed; });
  return best ? best->instance : kNobody;
}

const NodePlace* UnitMaps::dispatcher(const Address& address) const {
  for (const NodePlace& d : dispatchers)
    if (d.address == address) return &d;
  return nullptr;
}

}  // namespace weir
