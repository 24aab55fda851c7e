// The whole desired state in the form the pipeline reads: immutable once check() has passed. TypeScript builds it,
// install() swaps one pointer. Ids (policy, chain, path, service, instance) are stable across programs, so streams and
// counters may hold them; indices are valid within one program only.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/address.h"
#include "engine/classifier_index.h"

namespace weir {

inline constexpr uint32_t kMaxHops = 32;
inline constexpr uint32_t kMaxPolicyIds = 1u << 20;
inline constexpr uint32_t kMaxChainIds = 1u << 16;
inline constexpr uint32_t kMaxPathIds = 1u << 20;
inline constexpr uint32_t kMaxInstanceIds = 65535;
inline constexpr uint16_t kNoInstance = 0xffff;
inline constexpr uint32_t kNoPolicy = (1u << 26) - 1;  // fits the bit field in Flow

enum class Affinity : uint8_t { five_tuple, three_tuple, two_tuple };
enum class Encapsulation : uint8_t { nsh, geneve };
enum class InstanceState : uint8_t { up, draining, down, standby };
enum class Action : uint8_t { pass, drop, chain };
enum class Direction : uint8_t { out, in };  // out: from the workload

struct Instance {
  uint16_t id = kNoInstance;
  uint16_t service = 0;  // service id
  Address address;
  Mac mac;
  bool resolved = false;  // mac is known
  InstanceState state = InstanceState::up;
  uint16_t weight = 1;
  uint32_t seed[2] = {0, 0};
  bool usable_for_new() const { return state == InstanceState::up && resolved; }
  bool usable_for_pinned() const { return (state == InstanceState::up || state == InstanceState::draining) && resolved; }
};

struct Service {
  uint16_t id = 0;
  Affinity affinity = Affinity::five_tuple;
  bool hold_on_failure = false;
  bool fail_open = false;
  std::vector<uint16_t> instances;  // indices into Program::instances; filled by check()
};

struct Path {
  uint32_t id = 0;
  uint32_t chain = 0;
  Encapsulation encapsulation = Encapsulation::nsh;
  bool answers_backwards = true;
  uint32_t moved_to = 0;           // path id, or 0
  std::vector<uint16_t> services;  // service ids, chain order

  uint32_t hops() const { return uint32_t(services.size()); }
  // Position in chain order of the step-th visit (0-based) in the given sense of travel.
  uint32_t position(uint32_t step, bool answer) const { return answer && answers_backwards ? hops() - 1 - step : step; }
  uint32_t spi(bool answer) const { return id * 2 + (answer ? 1 : 0); }
};

struct Chain {
  uint32_t id = 0;
  uint32_t path = 0;  // path id for new streams
};

struct Capture {
  std::string name;
  uint32_t tenant = 0;
  uint32_t mtu = 1500;
};

struct Rule {
  Address source, destination;  // masked
  uint8_t source_prefix = 0, destination_prefix = 0;
  uint8_t protocol = 255;  // 255 any
  uint8_t direction = 0;   // 0 both, 1 out, 2 in
  uint16_t source_port[2] = {0, 65535};
  uint16_t destination_port[2] = {0, 65535};
  uint16_t capture = 65535;
  uint16_t vlan = 65535;
  Action action = Action::pass;
  uint32_t chain = 0;
  uint32_t policy = 0;
};

struct IdleTimeouts {
  uint64_t tcp_ns = 350'000'000'000, other_ns = 120'000'000'000, closed_ns = 5'000'000'000;
};

struct Program {
  uint64_t generation = 0;
  uint64_t affinity_key[2] = {0, 0};  // SipHash k0, k1 (little-endian halves of the 16 bytes)
  Action default_action = Action::pass;
  bool mss_clamp = true;
  IdleTimeouts idle;
  std::optional<Address> underlay_ipv4, underlay_ipv6;
  Mac underlay_mac;
  uint32_t underlay_mtu = 1500;
  std::vector<Capture> captures;
  std::vector<Service> services;
  std::vector<Instance> instances;
  std::vector<Path> paths;
  std::vector<Chain> chains;
  std::vector<Rule> rules;  // in order of precedence

  // Checks every reference and limit and builds the indices below. Returns what is wrong, or an empty string.
  std::string check();

  const Path* path(uint32_t id) const { return id < path_index.size() && path_index[id] >= 0 ? &paths[size_t(path_index[id])] : nullptr; }
  const Chain* chain(uint32_t id) const { return id < chain_index.size() && chain_index[id] >= 0 ? &chains[size_t(chain_index[id])] : nullptr; }
  const Service* service(uint32_t id) const { return id < service_index.size() && service_index[id] >= 0 ? &services[size_t(service_index[id])] : nullptr; }
  const Instance* instance(uint32_t id) const { return id < instance_index.size() && instance_index[id] >= 0 ? &instances[size_t(instance_index[id])] : nullptr; }
  const Instance* instance_at(const Address& address) const;
  // Index of the capture with this tenant, or -1.
  int capture_of_tenant(uint32_t tenant) const;

  std::vector<int32_t> path_index, chain_index, service_index, instance_index;  // id -> index or -1
  ClassifierIndex rule_index;
 private:
  struct AddressHash {
    size_t operator()(const Address& a) const;
  };
  std::unordered_map<Address, uint32_t, AddressHash> instance_by_address_;
  std::unordered_map<uint32_t, uint16_t> capture_by_tenant_;
};

}  // namespace weir
