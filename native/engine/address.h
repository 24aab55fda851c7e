// IPv4 and IPv6 addresses as 16 bytes; IPv4 is ::ffff:a.b.c.d, so one form serves keys, rules and hashing.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>

namespace weir {

struct Address {
  std::array<uint8_t, 16> bytes{};

  static Address from_ipv4(const uint8_t* p) {
    Address a;
    a.set_ipv4(p);
    return a;
  }
  void set_ipv4(const uint8_t* p) {
    static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::memcpy(bytes.data(), kPrefix, 12);
    std::memcpy(&bytes[12], p, 4);
  }
  static Address from_ipv6(const uint8_t* p) {
    Address a;
    std::memcpy(a.bytes.data(), p, 16);
    return a;
  }
  bool is_ipv4() const {
    static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(bytes.data(), kMapped, 12) == 0;
  }
  const uint8_t* ipv4() const { return &bytes[12]; }
  auto operator<=>(const Address&) const = default;
};
static_assert(sizeof(Address) == 16);

struct Mac {
  std::array<uint8_t, 6> bytes{};
  auto operator<=>(const Mac&) const = default;
};

}  // namespace weir
