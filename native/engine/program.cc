#include "engine/program.h"

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

  instance_by_address_.clear();
  for (Service& s : services) s.instances.clear();
  for (size_t i = 0; i < instances.size(); i++) {
    const Instance& instance = instances[i];
    if (!service(instance.service)) return "instance " + std::to_string(instance.id) + " names no service";
    if (instance.weight == 0) return "instance " + std::to_string(instance.id) + " has weight 0";
    if (!instance_by_address_.emplace(instance.address, uint32_t(i)).second)
      return "instance " + std::to_string(instance.id) + " has another one's address";
    services[size_t(service_index[instance.service])].instances.push_back(uint16_t(i));
  }
  for (const Path& p : paths) {
    if (p.id == 0) return "path id 0 is reserved";
    if (p.services.size() > kMaxHops) return "path " + std::to_string(p.id) + " has more than 32 hops";
    if (!chain(p.chain)) return "path " + std::to_string(p.id) + " names no chain";
    if (p.moved_to && !path(p.moved_to)) return "path " + std::to_string(p.id) + " is moved to a path that is not there";
    for (const uint16_t s : p.services)
      if (!service(s)) return "path " + std::to_string(p.id) + " names no service";
  }
  for (const Chain& c : chains) {
    const Path* p = path(c.path);
    if (!p || p->chain != c.id) return "chain " + std::to_string(c.id) + " has no path of its own";
    if (p->moved_to) return "chain " + std::to_string(c.id) + " has a path that was moved away from";
  }
  capture_by_tenant_.clear();
  for (size_t i = 0; i < captures.size(); i++) {
    if (captures[i].tenant >= 1u << 24) return "capture " + captures[i].name + " has a tenant over 24 bits";
    if (!capture_by_tenant_.emplace(captures[i].tenant, uint16_t(i)).second) return "two captures have tenant " + std::to_string(captures[i].tenant);
  }
  for (const Rule& r : rules) {
    if (r.source_prefix > 128 || r.destination_prefix > 128) return "a rule has a prefix longer than 128";
    if (r.action == Action::chain && !chain(r.chain)) return "a rule names no chain";
    if (r.policy >= kMaxPolicyIds) return "a rule has a policy id over 20 bits";
  }
  rule_index.build(rules);
  return {};
}

const Instance* Program::instance_at(const Address& address) const {
  const auto found = instance_by_address_.find(address);
  return found == instance_by_address_.end() ? nullptr : &instances[found->second];
}

int Program::capture_of_tenant(uint32_t tenant) const {
  const auto found = capture_by_tenant_.find(tenant);
  return found == capture_by_tenant_.end() ? -1 : found->second;
}

}  // namespace weir
