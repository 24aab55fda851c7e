// A frame as the host that it is for reads it, by code that shares nothing with the engine's: what a host would take for TCP, UDP or
// ICMP is what no frame may hide from the services. Generous: lengths that a host would refuse are not looked at.
#pragma once
#include <cstdint>
#include <span>

#include "engine/address.h"

namespace weir::fuzz {

struct HostReading {
  enum class Kind : uint8_t {
    other,       // nothing that is steered
    neighbours,  // ICMPv6 that is of one link
    transport,
    rest,  // of a datagram in fragments, whose protocol only the first of them tells
  };
  Kind kind = Kind::other;
  uint8_t protocol = 0;
  bool ipv4 = false;
  bool fragment = false;
  bool later = false;  // and one without ports
  uint32_t id = 0;
  bool ports = false;
  Address source, destination;
  uint16_t source_port = 0, destination_port = 0;
};

inline HostReading read_as_host(std::span<const uint8_t> b) {
  HostReading r;
  auto u8 = [&](size_t at) -> uint32_t { return at < b.size() ? b[at] : 0; };
  auto u16 = [&](size_t at) { return u8(at) << 8 | u8(at + 1); };
  size_t at = 12;
  for (int tags = 0; tags < 2 && (u16(at) == 0x8100 || u16(at) == 0x88a8 || u16(at) == 0x9100); tags++) at += 4;
  const uint32_t type = u16(at), icmp = type == 0x0800 ? 1 : 58;
  at += 2;
  if (type == 0x0800 && b.size() >= at + 20) {
    r.ipv4 = true;
    r.protocol = uint8_t(u8(at + 9));
    r.fragment = u16(at + 6) & 0x3fff;
    r.later = u16(at + 6) & 0x1fff;
    r.id = u16(at + 4);
    r.source = Address::from_ipv4(&b[at + 12]);
    r.destination = Address::from_ipv4(&b[at + 16]);
    at += (u8(at) & 15) * 4;
  } else if (type == 0x86dd && b.size() >= at + 40) {
    r.protocol = uint8_t(u8(at + 6));
    r.source = Address::from_ipv6(&b[at + 8]);
    r.destination = Address::from_ipv6(&b[at + 24]);
    at += 40;
    // RFC 8200 section 4.1, and those that the engine walks over beside them (mobility, HIP, shim6).
    auto extension = [&] { return r.protocol == 0 || r.protocol == 43 || r.protocol == 51 || r.protocol == 60 || r.protocol == 135 || r.protocol == 139 || r.protocol == 140; };
    while (!r.later && at < b.size() && (extension() || r.protocol == 44)) {
      const uint8_t next = uint8_t(u8(at));
      if (r.protocol == 44) {
        r.fragment |= u16(at + 2) & 0xfff9;
        r.later = u16(at + 2) & 0xfff8;
        r.id = u16(at + 4) << 16 | u16(at + 6);
      }
      at += r.protocol == 44 ? 8 : r.protocol == 51 ? (u8(at + 1) + 2) * 4 : (u8(at + 1) + 1) * 8;
      r.protocol = next;
    }
    // Whatever its fragment header names: who puts the datagram together believes the first one (RFC 8200 section 4.5), which may
    // name one more extension.
    if (r.later) {
      r.kind = HostReading::Kind::rest;
      return r;
    }
  } else {
    return r;
  }
  if (r.protocol != 6 && r.protocol != 17 && r.protocol != icmp) return r;
  r.kind = HostReading::Kind::transport;
  if (r.protocol == 58 && !r.later && u8(at) >= 133 && u8(at) <= 137) r.kind = HostReading::Kind::neighbours;
  r.ports = !r.later && r.protocol != icmp;
  if (r.ports) {
    r.source_port = uint16_t(u16(at));
    r.destination_port = uint16_t(u16(at + 2));
  }
  return r;
}

}  // namespace weir::fuzz
