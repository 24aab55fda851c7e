// The whole desired state in the form the pipeline reads: immutable once check() has passed. TypeScript builds it,
// install() swaps one pointer. Ids (policy, chain, path, service, instance) are stable across programs, so streams and
// counters may hold them; indices are valid within one program only.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/address.h"
#include "engine/classifier_index.h"
#include "engine/frame.h"

namespace weir {

inline constexpr uint32_t kMaxHops = 32;
inline constexpr uint32_t kMaxPolicyIds = 1u << 20;
inline constexpr uint32_t kMaxChainIds = 1u << 16;
inline constexpr uint32_t kMaxPathIds = 1u << 20;
inline constexpr uint32_t kMaxInstanceIds = 65535;
inline constexpr uint32_t kMostPorts = 65535;
inline constexpr uint32_t kMostUnderlays = 16;
inline constexpr uint16_t kNoInstance = 0xffff;
inline constexpr uint32_t kNoPolicy = (1u << 26) - 1;  // fits the bit field in Flow

enum class Affinity : uint8_t { five_tuple, three_tuple, two_tuple };
enum class Encapsulation : uint8_t { nsh, geneve };
enum class InstanceState : uint8_t { up, draining, down, standby };
enum class Action : uint8_t { pass, drop, chain };
enum class Direction : uint8_t { out, in };  // out: from the workload

// Where packets enter and leave an instance that knows nothing of stamps: on one side of it.
struct Leg {
  PortId port = 0;
  uint16_t vlan = 0;  // the tag that its frames carry on that port; 0 none
  Mac mac;            // routed: the instance's own
};
// From whom they come: a packet enters by the leg of the side that it comes from and leaves by the other.
inline constexpr size_t kWorkloadLeg = 0, kNetworkLeg = 1;

// How an instance is probed; an interval of 0: not at all.
struct ProbeSettings {
  uint64_t interval_ns = 0, timeout_ns = 0;
  uint32_t rise = 2, fall = 3;
  Encapsulation encapsulation = Encapsulation::nsh;
};

struct Instance {
  // stamped: through the underlay. bump: frames go through it as through a wire. routed: a router, which may have one leg for both sides.
  enum class Reach : uint8_t { stamped, bump, routed };

  uint16_t id = kNoInstance;
  uint16_t service = 0;  // service id
  Address address;
  Mac mac;
  bool resolved = false;  // mac is known
  InstanceState state = InstanceState::up;
  uint16_t weight = 1;
  uint32_t seed[2] = {0, 0};
  Reach reach = Reach::stamped;
  uint8_t underlay = 0;  // stamped: index into Program::underlays
  uint16_t way_mtu = 65535;  // stamped: what routes and routers on the way to it carry, as far as known
  uint16_t mtu = 0;          // filled by check(): what packets to it may measure, by its underlay and the way behind that
  Leg legs[2];
  bool proxied() const { return reach != Reach::stamped; }
  ProbeSettings probe;
  bool usable_for_new() const { return state == InstanceState::up && resolved; }
  bool usable_for_pinned() const { return (state == InstanceState::up || state == InstanceState::draining) && resolved; }
};

struct Service {
  uint16_t id = 0;
  Affinity affinity = Affinity::five_tuple;
  bool hold_on_failure = false;
  bool fail_open = false;
  bool primary = false;  // its instances pass streams on to each other: a stream is with the one that returns its packets
  std::vector<uint16_t> instances;  // indices into Program::instances; filled by check()
};

// An instance that may serve streams of a path, with the weight it had when it came to it.
struct Member {
  uint16_t instance = 0;  // index into Program::instances
  uint16_t weight = 1;
  uint16_t tier = 0;  // 0: the path was made with it; it serves what nobody of a lower tier is left to serve
};

// Tiers of a list of members go up.
inline bool in_tiers(const std::vector<Member>& members) {
  for (size_t i = 1; i < members.size(); i++)
    if (members[i].tier < members[i - 1].tier) return false;
  return true;
}

struct Path {
  uint32_t id = 0;
  uint32_t chain = 0;
  Encapsulation encapsulation = Encapsulation::nsh;
  bool answers_backwards = true;
  bool deliver = false;            // the last instance keeps what it gets and answers by itself
  uint32_t moved_to = 0;           // path id, or 0
  std::vector<uint16_t> services;  // service ids, chain order
  // By position: who serves this path's streams, so that everybody who knows it finds the same instance for a stream without asking.
  // Who fails goes, who comes later ranks after all that are there. Empty: any instance of the service.
  std::vector<std::vector<Member>> members;
  bool has_members() const { return !members.empty(); }
  bool has_member(uint32_t position, uint16_t instance) const {
    for (const Member& m : members[position])
      if (m.instance == instance) return true;
    return false;
  }
  // Whether somebody has come to it since it was made: perhaps one who was a member before, in another run.
  bool has_late_member(uint32_t position) const { return !members[position].empty() && members[position].back().tier > 0; }
  // Filled by check(): whether any of its instances is reached through an underlay, the most that fits behind an outer IP header on
  // the way to each of these, the same if any of them were reached over IPv6 wherever its underlay has it, and the least MTU on the
  // way to the others.
  bool stamped = false;
  bool fragments = false;  // what can't be cut may be longer than that: uncut_room, the same where underlays that fragment have no MTU
  uint32_t uncut_room = 65535;
  uint32_t outer_room = 65535, least_outer_room = 65535;
  uint32_t proxy_mtu = 65535;

  uint32_t hops() const { return uint32_t(services.size()); }
  // Position of a service in chain order, or -1.
  int position_of(uint16_t service) const {
    for (uint32_t i = 0; i < hops(); i++)
      if (services[i] == service) return int(i);
    return -1;
  }
  // Position in chain order of the step-th visit (0-based) in the given sense of travel.
  uint32_t position(uint32_t step, bool answer) const { return answer && answers_backwards ? hops() - 1 - step : step; }
  // Whether a packet of who opened the stream ends at this visit.
  bool ends_at(uint32_t step) const { return deliver && step + 1 == hops(); }
  uint32_t spi(bool answer) const { return id * 2 + (answer ? 1 : 0); }
};

struct Chain {
  uint32_t id = 0;
  uint32_t path = 0;  // path id for new streams
};

// A network that instances are reached on.
struct Underlay {
  std::optional<Address> ipv4, ipv6;  // what is sent there comes from, and what comes back is for
  Mac mac;
  uint32_t mtu = 1500;
  bool fragment = false;  // outer packets that are longer leave in fragments, and come back in such

  const std::optional<Address>& own(bool is_ipv4) const { return is_ipv4 ? ipv4 : ipv6; }
};

struct Capture {
  std::string name;
  uint32_t tenant = 0;
  uint32_t mtu = 1500;
};

// An interface that instances are attached to.
struct ProxyPort {
  Mac mac;
  uint32_t mtu = 1500;
};

// The instance that a frame came from, and by which of its legs (a bit each: a router may have one for both).
struct Origin {
  uint16_t instance = 0;  // index into Program::instances
  uint8_t legs = 0;
};

// An address that no host of a capture's segments has: weir answers who asks for its link address.
struct VirtualAddress {
  Address address;
  Mac mac;
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

// A policy that was added, changed or taken out with `existing: move`: its live streams are decided again.
struct Move {
  uint32_t policy = 0;
  uint64_t generation = 0;  // of the change
  uint32_t sequence = 0;    // of the first program that had it; ProgramCell sets it
};

struct IdleTimeouts {
  uint64_t tcp_ns = 350'000'000'000, other_ns = 120'000'000'000, closed_ns = 5'000'000'000;
};

struct Program {
  uint64_t generation = 0;
  uint64_t affinity_key[2] = {0, 0};  // SipHash k0, k1 (little-endian halves of the 16 bytes)
  uint64_t probe_key[2] = {0, 0};  // of the nonces in probes
  Action default_action = Action::pass;
  bool mss_clamp = true;
  IdleTimeouts idle;
  std::vector<Underlay> underlays = std::vector<Underlay>(1);  // at least one, also where nothing is reached there
  std::vector<Capture> captures;
  std::vector<ProxyPort> proxy_ports;  // their PortIds follow all others
  std::vector<Service> services;
  std::vector<Instance> instances;
  std::vector<Path> paths;
  std::vector<Chain> chains;
  std::vector<VirtualAddress> virtual_addresses;
  std::vector<Rule> rules;  // in order of precedence
  // Another program whose rules are this one's too, in place of own ones: an index over a hundred thousand takes half a second to
  // build, and a change of an instance's state leaves them what they are.
  std::shared_ptr<const Program> rules_of;
  const std::vector<Rule>& all_rules() const { return rules_of ? rules_of->rules : rules; }
  const ClassifierIndex& all_rules_index() const { return rules_of ? rules_of->rule_index : rule_index; }
  mutable std::vector<Move> moves;  // by policy id; changed by ProgramCell alone, before anybody else sees the program

  // Checks every reference and limit and builds the indices below. Returns what is wrong, or an empty string.
  std::string check();

  const Path* path(uint32_t id) const { return id < path_index.size() && path_index[id] >= 0 ? &paths[size_t(path_index[id])] : nullptr; }
  const Chain* chain(uint32_t id) const { return id < chain_index.size() && chain_index[id] >= 0 ? &chains[size_t(chain_index[id])] : nullptr; }
  const Service* service(uint32_t id) const { return id < service_index.size() && service_index[id] >= 0 ? &services[size_t(service_index[id])] : nullptr; }
  const Instance* instance(uint32_t id) const { return id < instance_index.size() && instance_index[id] >= 0 ? &instances[size_t(instance_index[id])] : nullptr; }
  const Instance* instance_at(const Address& address) const;
  uint32_t port_count() const { return uint32_t(first_proxy_port() + proxy_ports.size()); }
  bool is_capture_port(PortId port) const { return port != kUnderlayPort && port <= 2 * captures.size(); }
  bool is_underlay_port(PortId port) const { return port == kUnderlayPort || (port > 2 * captures.size() && port < first_proxy_port()); }
  bool is_proxy_port(PortId port) const { return port >= first_proxy_port() && port < port_count(); }
  PortId underlay_port(size_t underlay) const { return underlay == 0 ? kUnderlayPort : PortId(2 * captures.size() + underlay); }
  // Of an underlay's port: which one it is.
  size_t underlay_of(PortId port) const { return port == kUnderlayPort ? 0 : port - 2 * captures.size(); }
  const Underlay& underlay(const Instance& instance) const { return underlays[instance.underlay]; }
  const ProxyPort& proxy_port(PortId port) const { return proxy_ports[port - first_proxy_port()]; }
  // Whether what comes in by this port carries a tag that tells its instance.
  bool port_tagged(PortId port) const { return tagged_ports_[port - first_proxy_port()]; }
  // Whose frame it is that came in by a proxy port with this tag and source; null where nobody's. Where a router is alone on its
  // port, its source address does not matter: it may send with another than it is reached by.
  const Origin* origin(PortId port, uint16_t vlan, const uint8_t* source_mac) const;
  uint32_t longest_path() const {
    uint32_t hops = 0;
    for (const Path& p : paths) hops = p.hops() > hops ? p.hops() : hops;
    return hops;
  }
  // Whether streams of this policy that program number `decided_by` decided are to be decided again.
  bool moved_since(uint32_t policy, uint32_t decided_by) const;
  // Null where the address is no virtual one.
  const Mac* virtual_mac(const Address& address) const;
  // Index of the capture with this tenant, or -1.
  int capture_of_tenant(uint32_t tenant) const;

  std::vector<int32_t> path_index, chain_index, service_index, instance_index;  // id -> index or -1
  ClassifierIndex rule_index;
  bool delivers = false;  // one of its paths does
 private:
  struct AddressHash {
    size_t operator()(const Address& a) const;
  };
  std::unordered_map<Address, uint32_t, AddressHash> instance_by_address_;
  std::unordered_map<Address, Mac, AddressHash> virtual_macs_;
  std::unordered_map<uint32_t, uint16_t> capture_by_tenant_;
  size_t first_proxy_port() const { return 2 * captures.size() + underlays.size(); }
  std::string index_path(Path& path) const;
  struct AttachedLeg {
    Origin origin;
    Mac mac;
  };
  std::string index_legs();
  std::unordered_map<uint32_t, std::vector<AttachedLeg>> legs_;  // by port << 12 | VLAN id
  std::vector<bool> tagged_ports_;
};

}  // namespace weir
