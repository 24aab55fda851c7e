// Writing the outer headers and the stamp, and reading them back: nsh and geneve alike.
#pragma once
#include <cstdint>
#include <span>

#include "engine/address.h"
#include "engine/frame.h"
#include "engine/program.h"
#include "wire/geneve.h"
#include "wire/vxlan_nsh.h"

namespace weir {

inline constexpr uint32_t kOuter4 = 14 + 20 + 8, kOuter6 = 14 + 40 + 8;

// Where an instance is reached and what the outer header says of the stream.
struct Tunnel {
  const Address* source;
  const Address* destination;
  const Mac* source_mac;
  const Mac* destination_mac;
  uint32_t code;
  Encapsulation encapsulation;
  uint8_t dscp = 0;

  bool ipv6() const { return !destination->is_ipv4(); }
  uint32_t outer_length() const { return ipv6() ? kOuter6 : kOuter4; }
};

inline constexpr uint16_t tunnel_source_port(uint32_t code) { return uint16_t(49152 + code % 16384); }

// Writes Ethernet, IP and UDP headers at `p` (outer_length() bytes) for a UDP payload made of `payload`. The UDP checksum is
// zero over IPv4 and computed over IPv6 (RFC 768, RFC 8200 section 8.1).
void write_outer(uint8_t* p, const Tunnel& tunnel, std::span<const Piece> payload);

struct Stamp {
  uint32_t vni = 0;    // tenant
  uint32_t vlans = 0;  // outer VLAN id << 12 | inner: part of Geneve's endpoint, since its inner packet has no tags
  uint32_t spi = 0;
  uint8_t si = 0;
  uint8_t ttl = kNshFirstTtl;
  bool answer = false;
  uint32_t code = 0;
};

// Geneve's endpoint: capture (by its tenant, 24 bits) and VLAN ids (24 bits).
inline constexpr uint64_t geneve_endpoint(uint32_t tenant, uint32_t vlans) { return uint64_t(vlans) << 24 | tenant; }

inline constexpr uint32_t stamp_length(Encapsulation e) { return e == Encapsulation::nsh ? kNshStamp : kGeneveStamp; }
// `inner_version`: 4 or 6, for Geneve's protocol type.
void write_stamp(uint8_t* p, Encapsulation encapsulation, const Stamp& stamp, uint8_t inner_version);

// A stamped datagram as it came from the underlay. Offsets count from the start of the frame.
struct StampedFrame {
  enum class Result : uint8_t { ok, not_ours, malformed };
  Result result = Result::malformed;
  Encapsulation encapsulation = Encapsulation::nsh;
  Address source, destination;
  uint32_t udp = 0;          // UDP header
  uint32_t payload = 0;      // VXLAN-GPE or Geneve header
  uint32_t payload_end = 0;  // may hold several datagrams of gso_size
};

StampedFrame read_outer(const Frame& frame);
// False if the UDP checksum is there and wrong. Not for frames of several datagrams.
bool outer_checksum_ok(const Frame& frame, const StampedFrame& stamped);

}  // namespace weir
