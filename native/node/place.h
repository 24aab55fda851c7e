// Places on the underlay, as nodes know each other.
#pragma once
#include <cstdint>

#include "engine/address.h"

namespace weir {

// Somewhere that stamped packets are sent to.
struct NodePlace {
  Address address;
  Mac mac;
  bool resolved = false;  // mac is known
};

// One that streams are spread over: what rendezvous hashing ranks it by.
struct RankedPlace {
  NodePlace place;
  uint32_t seed[2] = {0, 0};
};

}  // namespace weir
