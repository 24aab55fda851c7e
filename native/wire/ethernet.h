// Ethernet II with up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#pragma once
#include <cstdint>

#include "wire/bytes.h"

namespace weir {

inline constexpr uint32_t kEthernetHeader = 14;
inline constexpr uint32_t kVlanTag = 4;
inline constexpr uint16_t kEtherIpv4 = 0x0800, kEtherIpv6 = 0x86dd, kEtherArp = 0x0806;
inline constexpr uint16_t kEtherVlan = 0x8100, kEtherQinq = 0x88a8, kEtherQinqOld = 0x9100;

inline constexpr bool is_vlan_ethertype(uint16_t type) { return type == kEtherVlan || type == kEtherQinq || type == kEtherQinqOld; }

}  // namespace weir
