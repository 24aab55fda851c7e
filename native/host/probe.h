// What this kernel grants this process, found out by asking for it: for `weir doctor`.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace weir {

struct Probe {
  const char* feature;
  int error;  // errno, 0 where it works
};

// Opens sockets of its own on the loopback interface and closes them again; sends one frame there, to an address that nobody has.
std::vector<Probe> probe_kernel();

struct Offloads {
  bool rx_checksum = false, tx_checksum = false, tso = false, gso = false, gro = false, lro = false;
};

// As ethtool -k shows them. Nothing where there is no such interface.
std::optional<Offloads> interface_offloads(const std::string& name);

}  // namespace weir
