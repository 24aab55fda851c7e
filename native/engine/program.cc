#include "engine/program.h"

#include <algorithm>

#include "engine/outer_fragments.h"
#include "wire/ip.h"

namespace weir {
namespace {

template <typename Row>
std::string index_by_id(const std::vector<Row>& rows, uint32_t limit, const char* what, std::vector<int32_t>& index) {
  index.clear();
  for (size_t i = 0; i < rows.size(); i++) {
    const uint32_t id = rows[i].id;
    if (id >= limit) return std::string(what) + " id " + std::to_string(id) + " is not below " + std::to_string(limit);
    if (id >= index.size()) index.resize(id + 1, -1);
    if (index[id] >= 0) return std::string(what) + " id " + std::to_string(id) + " is given twice";
    index[id] = int32_t(i);
  }
  return {};
}

}  // namespace

size_t Program::AddressHash::operator()(const Address& a) const {
  uint64_t high, low;
  std::memcpy(&high, a.bytes.data(), 8);
  std::memcpy(&low, a.bytes.data() + 8, 8);
  return size_t((high ^ low * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd >> 16);
}

std::string Program::check() {
  std::string error;
  if (!(error = index_by_id(paths, kMaxPathIds, "path", path_index)).empty()) return error;
  if (!(error = index_by_id(chains, kMaxChainIds, "chain", chain_index)).empty()) return error;
  if (!(error = index_by_id(services, kMaxInstanceIds, "service", service_index)).empty()) return error;
  if (!(error = index_by_id(instances, kMaxInstanceIds, "instance", instance_index)).empty()) return error;

  if (captures.empty() && !proxy_ports.empty()) return "there are ports for instances and no capture";
  if (underlays.empty() || underlays.size() > kMostUnderlays) return "there are " + std::to_string(underlays.size()) + " underlays, and 1 to " + std::to_string(kMostUnderlays) + " can be";
  if (first_proxy_port() + proxy_ports.size() > kMostPorts) return "there are more than " + std::to_string(kMostPorts) + " ports";

  instance_by_address_.clear();
  for (Service& s : services) s.instances.clear();
  for (size_t i = 0; i < instances.size(); i++) {
    Instance& instance = instances[i];
    if (!service(instance.service)) return "instance " + std::to_string(instance.id) + " names no service";
    if (instance.weight == 0) return "instance " + std::to_string(instance.id) + " has weight 0";
    if (instance.underlay >= underlays.size()) return "instance " + std::to_string(instance.id) + " is on an underlay that is not there";
    instance.mtu = uint16_t(std::min<uint32_t>(instance.way_mtu, underlay(instance).mtu));
    if (!instance.proxied() && !instance_by_address_.emplace(instance.address, uint32_t(i)).second)
      return "instance " + std::to_string(instance.id) + " has another one's address";
    services[size_t(service_index[instance.service])].instances.push_back(uint16_t(i));
  }
  if (!(error = index_legs()).empty()) return error;
  for (Path& p : paths)
    if (!(error = index_path(p)).empty()) return error;
  for (const Chain& c : chains) {
    const Path* p = path(c.path);
    if (!p || p->chain != c.id) return "chain " + std::to_string(c.id) + " has no path of its own";
    if (p->moved_to) return "chain " + std::to_string(c.id) + " has a path that was moved away from";
  }
  delivers = std::any_of(paths.begin(), paths.end(), [](const Path& p) { return p.deliver; });
  virtual_macs_.clear();
  for (const VirtualAddress& v : virtual_addresses) virtual_macs_.emplace(v.address, v.mac);
  capture_by_tenant_.clear();
  for (size_t i = 0; i < captures.size(); i++) {
    if (captures[i].tenant >= 1u << 24) return "capture " + captures[i].name + " has a tenant over 24 bits";
    if (!capture_by_tenant_.emplace(captures[i].tenant, uint16_t(i)).second) return "two captures have tenant " + std::to_string(captures[i].tenant);
  }
  for (const Rule& r : all_rules()) {
    if (r.source_prefix > 128 || r.destination_prefix > 128) return "a rule has a prefix longer than 128";
    if (r.action == Action::chain && !chain(r.chain)) return "a rule names no chain";
    if (r.policy >= kMaxPolicyIds) return "a rule has a policy id over 20 bits";
  }
  std::sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) { return a.policy < b.policy; });
  if (!rules_of) rule_index.build(rules);
  return {};
}

std::string Program::index_path(Path& p) const {
  if (p.id == 0) return "path id 0 is reserved";
  if (p.services.size() > kMaxHops) return "path " + std::to_string(p.id) + " has more than 32 hops";
  if (!chain(p.chain)) return "path " + std::to_string(p.id) + " names no chain";
  if (p.moved_to && !path(p.moved_to)) return "path " + std::to_string(p.id) + " is moved to a path that is not there";
  const Path* end = &p;
  for (size_t i = 0; end && end->moved_to && i <= paths.size(); i++) end = path(end->moved_to);
  if (end && end->moved_to) return "path " + std::to_string(p.id) + " is moved in a circle";
  if (p.deliver && p.services.empty()) return "path " + std::to_string(p.id) + " delivers and has no hop";
  for (const uint16_t s : p.services)
    if (!service(s)) return "path " + std::to_string(p.id) + " names no service";
  if (p.has_members() && p.members.size() != p.services.size()) return "path " + std::to_string(p.id) + " has members for another number of services";
  for (size_t i = 0; i < p.members.size(); i++) {
    if (!in_tiers(p.members[i])) return "path " + std::to_string(p.id) + " has members whose tiers do not go up";
    for (const Member& m : p.members[i])
      if (m.instance >= instances.size() || instances[m.instance].service != p.services[i] || m.weight == 0)
        return "path " + std::to_string(p.id) + " has a member that is no instance of its service";
  }
  p.stamped = false;
  p.outer_room = p.uncut_room = p.least_outer_room = p.proxy_mtu = 65535;
  for (const uint16_t s : p.services) {
    for (const uint16_t i : service(s)->instances) {
      const Instance& instance = instances[i];
      if (instance.proxied()) {
        if (!instance.resolved) continue;
        for (const Leg& leg : instance.legs) p.proxy_mtu = std::min(p.proxy_mtu, proxy_port(leg.port).mtu);
        continue;
      }
      p.stamped = true;
      // Where nobody knows yet on which underlay it is, it narrows nothing: until then it gets nothing.
      if (!instance.resolved && underlays.size() > 1) continue;
      const Underlay& way = underlay(instance);
      auto room = [&](bool ipv4) { return instance.mtu - std::min<uint32_t>(instance.mtu, ipv4 ? kIpv4Header : kIpv6Header); };
      p.outer_room = std::min(p.outer_room, room(instance.address.is_ipv4()));
      p.least_outer_room = std::min(p.least_outer_room, room(instance.address.is_ipv4() && !way.ipv6));
      p.uncut_room = std::min(p.uncut_room, way.fragment ? std::max(kFragmentedRoom, room(instance.address.is_ipv4())) : room(instance.address.is_ipv4()));
    }
  }
  p.fragments = p.stamped && p.uncut_room > p.outer_room;
  return {};
}

// Legs on one port and VLAN are told apart by nothing but the source address, so only routers may share them.
std::string Program::index_legs() {
  legs_.clear();
  tagged_ports_.assign(proxy_ports.size(), false);
  for (size_t i = 0; i < instances.size(); i++) {
    const Instance& instance = instances[i];
    if (!instance.proxied() || !instance.resolved) continue;
    for (size_t side = 0; side < 2; side++) {
      const Leg& leg = instance.legs[side];
      const std::string who = "instance " + std::to_string(instance.id);
      if (!is_proxy_port(leg.port)) return who + " is attached to a port that is not for instances";
      if (leg.vlan > 4094) return who + " is attached with a VLAN id over 4094";
      std::vector<AttachedLeg>& here = legs_[uint32_t(leg.port) << 12 | leg.vlan];
      if (side == kNetworkLeg && !here.empty() && here.back().origin.instance == i) {
        if (instance.reach == Instance::Reach::bump) return who + " has both sides on one port";
        if (here.back().mac == leg.mac) {
          here.back().origin.legs |= 2;
          continue;
        }
      }
      for (const AttachedLeg& other : here)
        if (instance.reach == Instance::Reach::bump || instances[other.origin.instance].reach == Instance::Reach::bump)
          return who + " shares a port with another instance, and no VLAN tells them apart";
      here.push_back({{uint16_t(i), uint8_t(1 << side)}, leg.mac});
      if (leg.vlan) tagged_ports_[leg.port - first_proxy_port()] = true;
    }
  }
  for (const auto& [place, here] : legs_)
    if (!here.empty() && (place & 0xfff) == 0 && tagged_ports_[(place >> 12) - first_proxy_port()])
      return "a port has instances with a VLAN of their own and one without";
  return {};
}

const Origin* Program::origin(PortId port, uint16_t vlan, const uint8_t* source_mac) const {
  const auto found = legs_.find(uint32_t(port) << 12 | vlan);
  if (found == legs_.end()) return nullptr;
  if (found->second.size() == 1) return &found->second.front().origin;
  for (const AttachedLeg& leg : found->second)
    if (std::memcmp(leg.mac.bytes.data(), source_mac, 6) == 0) return &leg.origin;
  return nullptr;
}

bool Program::moved_since(uint32_t policy, uint32_t decided_by) const {
  const auto at = std::lower_bound(moves.begin(), moves.end(), policy, [](const Move& m, uint32_t id) { return m.policy < id; });
  return at != moves.end() && at->policy == policy && int32_t(at->sequence - decided_by) > 0;
}

const Instance* Program::instance_at(const Address& address) const {
  const auto found = instance_by_address_.find(address);
  return found == instance_by_address_.end() ? nullptr : &instances[found->second];
}

const Mac* Program::virtual_mac(const Address& address) const {
  const auto found = virtual_macs_.find(address);
  return found == virtual_macs_.end() ? nullptr : &found->second;
}

int Program::capture_of_tenant(uint32_t tenant) const {
  constexpr size_t kFew = 4;
  for (size_t i = 0; i < std::min(captures.size(), kFew); i++)
    if (captures[i].tenant == tenant) return int(i);
  const auto found = capture_by_tenant_.find(tenant);
  return found == capture_by_tenant_.end() ? -1 : found->second;
}

}  // namespace weir
