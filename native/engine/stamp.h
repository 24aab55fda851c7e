// Writing the outer headers and the stamp, and reading them back: nsh and geneve alike.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "engine/address.h"
#include "engine/frame.h"
#include "engine/program.h"
#include "engine/reasons.h"
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
  PortId port = kUnderlayPort;  // the underlay's

  bool ipv6() const { return !destination->is_ipv4(); }
  uint32_t outer_length() const { return ipv6() ? kOuter6 : kOuter4; }
};

inline constexpr uint16_t tunnel_source_port(uint32_t code) { return uint16_t(49152 + code % 16384); }

// Writes Ethernet, IP and UDP headers at `p` (outer_length() bytes) for a UDP payload made of `payload`. The UDP checksum is
// zero over IPv4 and computed over IPv6 (RFC 768, RFC 8200 section 8.1).
void write_outer(uint8_t* p, const Tunnel& tunnel, std::span<const Piece> payload);

// The most that one write of many datagrams may hold: kernels before 6.10 take 64 of them, and an IP packet has 16 bits of length.
inline constexpr uint32_t kBatchDatagrams = 64, kBatchPayload = 65535 - 40 - 8;

// The same for `payload` bytes that are datagrams of `size` bytes each (the last may be shorter): one frame that the kernel
// or the device cuts (UDP_L4), and whose UDP checksum it completes. Returns the offload header to send it with.
Offload write_outer_batch(uint8_t* p, const Tunnel& tunnel, uint32_t payload, uint32_t size);

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

// The offload header of such a frame, whose UDP header lies at `udp`.
Offload batch_offload(uint32_t udp, uint32_t size);

// A stamp as an instance sends it back. Offsets count from the VXLAN-GPE or Geneve header.
struct ReturnedStamp {
  std::optional<DropReason> refused;
  uint32_t length = 0;  // bytes of the stamp
  uint32_t spi = 0, code = 0, tenant = 0, vlans = 0;
  uint32_t step = 0;    // visits done, the one it comes from included
  uint8_t ttl = kNshFirstTtl;
  bool ethernet = false;  // what follows is a frame, else an IP packet

  // Whether the two say the same of their packets.
  bool same(const ReturnedStamp& o) const {
    return !refused && !o.refused && length == o.length && spi == o.spi && code == o.code && tenant == o.tenant && vlans == o.vlans &&
           step == o.step && ttl == o.ttl && ethernet == o.ethernet;
  }
};

ReturnedStamp read_returned_stamp(const uint8_t* p, uint32_t length, Encapsulation encapsulation);
// Makes a returned stamp the one for visit `step` of the path, where it lies. (Behind NSH the path is the stamp's own.)
void advance_stamp(uint8_t* p, Encapsulation encapsulation, const ReturnedStamp& read, uint32_t spi, uint32_t step);

// A stamped datagram as it came from the underlay: with the ports that it went out with, or, from an appliance that answers as one
// answers a datagram, with these swapped. Offsets count from the start of the frame.
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
// An ICMP error that quotes a stamped packet, and whose: from `from` to `to`. A host says "unreachable" when nobody holds the stamp's port
// there any more; a router, when it can't reach the host (RFC 792, RFC 4443), or "too long" when the next link does not carry the packet
// (RFC 1191, RFC 8201).
struct OuterError {
  enum class Kind : uint8_t { none, unreachable, too_long };
  Kind kind = Kind::none;
  Address from, to;
  uint32_t mtu = 0;  // too long: what the next link carries; 0: the router does not say
};
OuterError read_outer_error(const Frame& frame);
// Whether the sender left the UDP checksum to the kernel or the device, which has not come to it: the port says so or, where it says
// nothing of offloads, the sum of the pseudo-header stands in its place, as Linux leaves it. Frames of several datagrams are all so.
bool outer_checksum_unmade(const Frame& frame, const StampedFrame& stamped);
// False if the UDP checksum is there and wrong. Not for frames of several datagrams.
bool outer_checksum_ok(const Frame& frame, const StampedFrame& stamped);

}  // namespace weir
