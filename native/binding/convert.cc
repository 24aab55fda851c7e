#include "binding/convert.h"

#include <arpa/inet.h>

#include <cstdio>

namespace weir {

std::optional<Address> parse_address(const std::string& text) {
  uint8_t bytes[16];
  if (inet_pton(AF_INET, text.c_str(), bytes) == 1) return Address::from_ipv4(bytes);
  if (inet_pton(AF_INET6, text.c_str(), bytes) == 1) return Address::from_ipv6(bytes);
  return std::nullopt;
}

std::optional<Mac> parse_mac(const std::string& text) {
  unsigned v[6];
  char rest;
  if (std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &rest) != 6) return std::nullopt;
  Mac mac;
  for (int i = 0; i < 6; i++) mac.bytes[size_t(i)] = uint8_t(v[i]);
  return mac;
}

std::string format_address(const Address& address) {
  char text[INET6_ADDRSTRLEN];
  const bool ipv4 = address.is_ipv4();
  inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? address.ipv4() : address.bytes.data(), text, sizeof text);
  return text;
}

std::string format_mac(const Mac& mac) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac.bytes[0], mac.bytes[1], mac.bytes[2], mac.bytes[3], mac.bytes[4], mac.bytes[5]);
  return text;
}

}  // namespace weir
