#include "engine/neighbour_answer.h"

#include <cstring>

#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir {
namespace {

constexpr uint32_t kArp = 28, kSolicitation = 24, kAdvertisement = 32;
constexpr uint8_t kNeighbourSolicitation = 135, kNeighbourAdvertisement = 136;

// Ethernet header and tags of the answer; returns their length, which is the question's.
uint32_t write_link(const Packet& question, const uint8_t* to, const Mac& from, uint8_t* out) {
  std::memcpy(out, question.bytes, question.ip);
  std::memcpy(out, to, 6);
  std::memcpy(out + 6, from.bytes.data(), 6);
  return question.ip;
}

uint32_t answer_arp(const Program& program, const Packet& p, uint8_t* out) {
  const uint8_t* q = p.bytes + p.ip;
  // Ethernet, IPv4, lengths 6 and 4, a request.
  static constexpr uint8_t kRequest[8] = {0, 1, 8, 0, 6, 4, 0, 1};
  if (std::memcmp(q, kRequest, sizeof kRequest) != 0) return 0;
  const uint8_t *sender = q + 8, *sender_ip = q + 14, *target_ip = q + 24;
  const Mac* mac = program.virtual_mac(Address::from_ipv4(target_ip));
  // Who announces the address as its own is not asking.
  if (!mac || std::memcmp(sender_ip, target_ip, 4) == 0) return 0;
  const uint32_t at = write_link(p, p.bytes + 6, *mac, out);
  uint8_t* a = out + at;
  std::memcpy(a, kRequest, sizeof kRequest);
  a[7] = 2;
  std::memcpy(a + 8, mac->bytes.data(), 6);
  std::memcpy(a + 14, target_ip, 4);
  std::memcpy(a + 18, sender, 10);
  return at + kArp;
}

uint32_t answer_solicitation(const Program& program, const Packet& p, uint8_t* out) {
  const uint8_t* ip = p.bytes + p.ip;
  const uint8_t* q = p.bytes + p.transport;
  // A hop limit below 255 has crossed a router (RFC 4861 section 7.1.1).
  if (p.version != 6 || p.end - p.transport < kSolicitation || ip[7] != 255 || q[0] != kNeighbourSolicitation || q[1] != 0) return 0;
  const uint8_t* target = q + 8;
  const Mac* mac = program.virtual_mac(Address::from_ipv6(target));
  if (!mac) return 0;
  static constexpr uint8_t kAllNodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  static constexpr uint8_t kAllNodesMac[6] = {0x33, 0x33, 0, 0, 0, 1};
  static constexpr uint8_t kUnspecified[16] = {};
  // Who looks whether an address is taken has none yet, and all are told.
  const bool probe = std::memcmp(ip + 8, kUnspecified, 16) == 0;
  const uint32_t at = write_link(p, probe ? kAllNodesMac : p.bytes + 6, *mac, out);
  uint8_t* h = out + at;
  std::memset(h, 0, kIpv6Header + kAdvertisement);
  h[0] = 0x60;
  store16(h + 4, kAdvertisement);
  h[6] = kIpIcmp6;
  h[7] = 255;
  std::memcpy(h + 8, target, 16);
  std::memcpy(h + 24, probe ? kAllNodes : ip + 8, 16);
  uint8_t* a = h + kIpv6Header;
  a[0] = kNeighbourAdvertisement;
  a[4] = probe ? 0x20 : 0x60;  // override, and solicited
  std::memcpy(a + 8, target, 16);
  a[24] = 2;  // target link-layer address
  a[25] = 1;
  std::memcpy(a + 26, mac->bytes.data(), 6);
  checksum_store(a + 2, uint16_t(~checksum_fold(checksum_add(a, kAdvertisement, checksum_pseudo(h + 8, 32, kIpIcmp6, kAdvertisement)))));
  return at + kIpv6Header + kAdvertisement;
}

}  // namespace

uint32_t answer_neighbour(const Program& program, const Packet& packet, const Frame& frame, uint8_t* out) {
  if (packet.cross == CrossReason::neighbour_discovery) return answer_solicitation(program, packet, out);
  const bool arp = packet.cross == CrossReason::not_ip && packet.ip >= kEthernetHeader && frame.length >= packet.ip + kArp && load16(frame.bytes + packet.ip - 2) == kEtherArp;
  return arp ? answer_arp(program, packet, out) : 0;
}

}  // namespace weir
