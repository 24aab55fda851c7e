#include "engine/rule_row.h"

#include <cstring>

namespace weir {
namespace {

uint16_t little16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
uint32_t little32(const uint8_t* p) { return uint32_t(little16(p)) | uint32_t(little16(p + 2)) << 16; }

}  // namespace

Rule read_rule(const uint8_t* p) {
  Rule r;
  std::memcpy(r.source.bytes.data(), p, 16);
  std::memcpy(r.destination.bytes.data(), p + 16, 16);
  r.source_prefix = p[32];
  r.destination_prefix = p[33];
  r.protocol = p[34];
  r.direction = p[35];
  for (uint32_t i = 0; i < 2; i++) {
    r.source_port[i] = little16(p + 36 + 2 * i);
    r.destination_port[i] = little16(p + 40 + 2 * i);
  }
  r.capture = little16(p + 44);
  r.vlan = little16(p + 46);
  r.action = p[48] == 2 ? Action::chain : p[48] == 1 ? Action::drop : Action::pass;
  r.chain = little32(p + 52);
  r.policy = little32(p + 56);
  return r;
}

}  // namespace weir
