// The exact identity of a stream (both directions alike) and its keyed affinity code.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "engine/address.h"
#include "engine/program.h"
#include "engine/siphash.h"
#include "wire/bytes.h"

namespace weir {

// Canonical: (address, port) pair `a` is the lesser in byte order. 44 bytes, no padding, compared and hashed as bytes.
struct FlowKey {
  Address a, b;
  uint16_t port_a = 0, port_b = 0;
  uint32_t vlans = 0;            // outer VLAN id << 12 | inner VLAN id
  uint32_t tenant_protocol = 0;  // tenant << 8 | protocol

  uint32_t tenant() const { return tenant_protocol >> 8; }
  uint8_t protocol() const { return uint8_t(tenant_protocol); }
  bool operator==(const FlowKey& other) const {
    uint64_t x[5], y[5];
    std::memcpy(x, this, sizeof x);
    std::memcpy(y, &other, sizeof y);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4])) == 0 && tenant_protocol == other.tenant_protocol;
  }
};
static_assert(sizeof(FlowKey) == 44);

// One packet's view of its stream: as it travels, not canonical. `swapped()` tells which way round it lies in the key.
struct Tuple {
  Address source, destination;
  uint16_t source_port = 0, destination_port = 0;
  uint8_t protocol = 0;
  uint16_t vlan_outer = 0, vlan_inner = 0;
  uint16_t capture = 0;
  uint32_t tenant = 0;
  Direction direction = Direction::out;

  // Same stream in the same direction, given that tenant and capture are the same.
  bool same_stream(const Tuple& o) const {
    return source == o.source && destination == o.destination && source_port == o.source_port && destination_port == o.destination_port &&
           protocol == o.protocol && vlan_outer == o.vlan_outer && vlan_inner == o.vlan_inner;
  }

  // True when the destination pair is the lesser one.
  bool swapped() const {
    const uint8_t *s = source.bytes.data(), *d = destination.bytes.data();
    if (const uint64_t x = load64(s), y = load64(d); x != y) return x > y;
    if (const uint64_t x = load64(s + 8), y = load64(d + 8); x != y) return x > y;
    return source_port > destination_port;
  }
};

inline FlowKey flow_key(const Tuple& t) {
  FlowKey k;
  const bool swap = t.swapped();
  k.a = swap ? t.destination : t.source;
  k.b = swap ? t.source : t.destination;
  k.port_a = swap ? t.destination_port : t.source_port;
  k.port_b = swap ? t.source_port : t.destination_port;
  k.vlans = uint32_t(t.vlan_outer) << 12 | t.vlan_inner;
  k.tenant_protocol = t.tenant << 8 | t.protocol;
  return k;
}

// What a code covers, as SipHash takes it: tenant (4 bytes), protocol (1) and the two (address 16, port 2) pairs, all big-endian; the
// last word has the length. Put together in registers: bytes written one way and read another wait for each other.
struct AffinityWords {
  static constexpr uint32_t kCount = 6;
  uint64_t words[kCount];

  AffinityWords(const FlowKey& k, Affinity affinity) {
    const bool ports = affinity == Affinity::five_tuple;
    // Without ports the order of the pairs is that of the addresses, which the canonical order has already.
    const uint64_t pa = ports ? k.port_a : 0, pb = ports ? k.port_b : 0;
    const uint64_t protocol = affinity == Affinity::two_tuple ? 0 : k.protocol();
    uint64_t a[2], b[2];
    std::memcpy(a, k.a.bytes.data(), 16);
    std::memcpy(b, k.b.bytes.data(), 16);
    words[0] = __builtin_bswap32(k.tenant()) | protocol << 32 | a[0] << 40;
    words[1] = a[0] >> 24 | a[1] << 40;
    words[2] = a[1] >> 24 | (pa >> 8 | (pa & 255) << 8) << 40 | b[0] << 56;
    words[3] = b[0] >> 8 | b[1] << 56;
    words[4] = b[1] >> 8 | pb >> 8 << 56;
    words[5] = (pb & 255) | uint64_t(41) << 56;
  }
};

// Code of the canonical tuple: the low 32 bits of this. The flow table finds streams by it.
inline uint64_t affinity_hash(const uint64_t key[2], const FlowKey& k, Affinity affinity) {
  SipHash24<uint64_t> hash(key);
  for (const uint64_t word : AffinityWords(k, affinity).words) hash.add(word);
  uint64_t result;
  hash.finish(result);
  return result;
}

inline uint32_t affinity_code(const uint64_t key[2], const FlowKey& k, Affinity affinity) { return uint32_t(affinity_hash(key, k, affinity)); }

}  // namespace weir
