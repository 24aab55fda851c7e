#include "node/mesh_map.h"

#include <algorithm>

#include "engine/service_map.h"
#include "wire/vxlan_nsh.h"

namespace weir {

std::string MeshMap::check() {
  known_.clear();
  for (const NodePlace& f : forwarders) known_.push_back(f.address);
  for (const RankedPlace& i : instances) known_.push_back(i.place.address);
  std::sort(known_.begin(), known_.end());
  unreachable_ = std::make_unique<Counter[]>(instances.size());
  for (const auto& [id, path] : paths) {
    const std::string who = "path " + std::to_string(id);
    if (id == 0 || id >= kMaxPathIds) return who + " has an id out of range";
    if (path.hops.empty() || path.hops.size() > kMaxHops) return who + " has no hop, or more than 32";
    for (const MeshHop& hop : path.hops) {
      if (!in_tiers(hop.members)) return who + " has members whose tiers do not go up";
      for (const Member& m : hop.members)
        if (m.instance >= instances.size() || m.weight == 0) return who + " has a member that is not there";
    }
  }
  return {};
}

bool MeshMap::knows(const Address& source) const { return std::binary_search(known_.begin(), known_.end(), source); }

bool MeshMap::is_forwarder(const Address& source) const {
  return std::any_of(forwarders.begin(), forwarders.end(), [&](const NodePlace& f) { return f.address == source; });
}

bool MeshMap::exits_directly() const {
  return std::any_of(paths.begin(), paths.end(), [](const auto& path) { return path.second.exits_directly; });
}

void MeshMap::note_unreachable(const Address& to) const {
  for (size_t i = 0; i < instances.size(); i++)
    if (instances[i].place.address == to) unreachable_[i]++;
}

const NodePlace* MeshMap::forwarder(bool ipv4) const {
  for (const NodePlace& f : forwarders)
    if (f.address.is_ipv4() == ipv4) return &f;
  return nullptr;
}

MeshStep MeshMap::next(uint32_t spi, uint8_t si, uint32_t code) const {
  auto refused = [](NodeDrop reason) { return MeshStep{MeshStep::Kind::refused, reason}; };
  if (si == 0) return refused(NodeDrop::si_zero);
  const auto found = paths.find(spi / 2);
  if (found == paths.end() || !found->second.hands_on) return {MeshStep::Kind::back, NodeDrop::count_, nullptr, kNoInstance, uint8_t(si - 1)};
  const MeshPath& path = found->second;
  const uint32_t hops = uint32_t(path.hops.size());
  const bool turned = (spi & 1) && path.answers_backwards;
  auto at = [&](uint32_t step) -> const MeshHop& { return path.hops[turned ? hops - 1 - step : step]; };
  const uint32_t here = kNshFirstIndex - si;
  if (here >= hops) return refused(NodeDrop::bad_index);
  if (at(here).service != own_service) return refused(NodeDrop::wrong_service);
  for (uint32_t step = here + 1; step < hops; step++) {
    const MeshHop& hop = at(step);
    const Member* first = first_member(hop.members, code, [&](const Member& m) -> const uint32_t(&)[2] { return instances[m.instance].seed; });
    const RankedPlace* best = first ? &instances[first->instance] : nullptr;
    if (!best) {
      if (hop.fail_open) continue;
      return refused(NodeDrop::no_instance);
    }
    if (best->place.address == own.address) return refused(NodeDrop::loop);
    if (!best->place.resolved || best->place.address.is_ipv4() != own.address.is_ipv4()) return refused(NodeDrop::unresolved);
    return {MeshStep::Kind::instance, NodeDrop::count_, &best->place, uint16_t(best - instances.data()), uint8_t(kNshFirstIndex - step)};
  }
  const NodePlace* to = forwarder(own.address.is_ipv4());
  if (to && !to->resolved) to = nullptr;
  const bool exits = path.exits_directly && !(spi & 1);
  if (!to && !exits) return refused(NodeDrop::unresolved);
  return {exits ? MeshStep::Kind::exit : MeshStep::Kind::forwarder, NodeDrop::count_, to, kNoInstance, uint8_t(kNshFirstIndex - hops)};
}

}  // namespace weir
