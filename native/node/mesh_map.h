// The service map as a node's packets need it: who gets a stream's packet after this instance. Made by whoever reads the map that
// the forwarder sent, immutable afterwards. The answer depends on path, position and code alone, so two nodes with the same map
// give the same one, and both directions of a stream meet the same instances.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/address.h"
#include "engine/counters.h"
#include "engine/program.h"
#include "node/place.h"
#include "node/stamped_datagram.h"

namespace weir {

struct MeshHop {
  uint16_t service = 0;
  bool fail_open = false;
  std::vector<Member> members;  // `instance` is an index into MeshMap::instances
};

struct MeshPath {
  bool hands_on = false;  // a mesh chain's: else every packet goes back to where it came from
  bool answers_backwards = true;
  std::vector<MeshHop> hops;
  bool exits_directly = false;  // of a mesh chain: past the last service, what travels with the opener leaves from the instance's host
};

struct MeshStep {
  enum class Kind : uint8_t {
    back,       // to where it came from: the path is unknown, or its instances return their packets
    instance,   // to the next one
    forwarder,  // the last service is done
    exit,       // the same, and the packet leaves from here; to the forwarder where it can't
    refused,
  };
  Kind kind = Kind::back;
  NodeDrop reason = NodeDrop::count_;
  const NodePlace* place = nullptr;  // of exit: null where the forwarder's link address is not known
  uint16_t instance = kNoInstance;  // index
  uint8_t si = 0;                   // that the packet leaves with
};

struct MeshMap {
  double version = 0;
  NodePlace own;
  uint16_t own_service = 0;
  std::vector<NodePlace> forwarders;  // at most one of each address family
  std::vector<RankedPlace> instances;
  std::unordered_map<uint32_t, MeshPath> paths;

  // What is wrong with it, or an empty string. Sorts what lookups need.
  std::string check();
  MeshStep next(uint32_t spi, uint8_t si, uint32_t code) const;
  bool knows_path(uint32_t spi) const { return paths.contains(spi / 2); }
  const NodePlace* forwarder(bool ipv4) const;
  bool is_forwarder(const Address& source) const;
  // Whether packets of any path leave from their last instance's host.
  bool exits_directly() const;
  // Whether stamped packets may come from there: a forwarder or an instance of the map.
  bool knows(const Address& source) const;
  // ICMP "unreachable" about what was sent to an instance; of nobody: not counted. For the node's thread.
  void note_unreachable(const Address& to) const;
  uint64_t unreachable(size_t instance) const { return unreachable_[instance].get(); }

 private:
  std::vector<Address> known_;
  std::unique_ptr<Counter[]> unreachable_;  // by index of the instance
};

}  // namespace weir
