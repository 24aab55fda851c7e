// What the kernel knows of interfaces, routes and neighbours (rtnetlink(7)); reading needs no privilege.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/address.h"

namespace weir::netlink {

struct Interface {
  uint32_t index = 0, mtu = 0;
  std::string name;
  Mac mac;
  bool up = false, carrier = false, loopback = false;
  std::vector<Address> addresses;  // IPv4 in order, then IPv6 with link-local ones last
};

struct Route {
  uint32_t interface_index = 0;
  Address next_hop;
  std::optional<Address> source;
  uint32_t mtu = 0;  // what the kernel knows of the way: set for the route, or learnt of a router by its own connections; 0: nothing
};

std::optional<Interface> interface_by_name(const std::string& name);
// With an interface: as if packets had to leave by it (0: by any).
std::optional<Route> route_to(const Address& destination, uint32_t interface_index = 0);
// Has the kernel look for the link address of a neighbour, by a datagram to the discard port: on this interface, or where its route
// leads (empty).
void solicit(const Address& neighbour, const std::string& interface);
std::optional<Mac> neighbour(uint32_t interface_index, const Address& address);

}  // namespace weir::netlink
