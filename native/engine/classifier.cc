#include "engine/classifier.h"

#include "wire/ip.h"

namespace weir {
namespace {

constexpr size_t kFewRules = 8;  // asked in turn: no slower than the index

bool within(const Address& address, const Address& prefix, uint8_t length) {
  const uint32_t whole = length / 8, rest = length % 8;
  if (std::memcmp(address.bytes.data(), prefix.bytes.data(), whole) != 0) return false;
  return rest == 0 || ((address.bytes[whole] ^ prefix.bytes[whole]) >> (8 - rest)) == 0;
}

bool any_port(const uint16_t range[2]) { return range[0] == 0 && range[1] == 65535; }

bool matches(const Rule& r, const Tuple& t, bool ports) {
  if (r.protocol != 255 && r.protocol != t.protocol) return false;
  if (r.direction != 0 && r.direction != (t.direction == Direction::out ? 1 : 2)) return false;
  if (r.capture != 65535 && r.capture != t.capture) return false;
  if (r.vlan != 65535 && r.vlan != t.vlan_outer) return false;
  if (!any_port(r.source_port) && (!ports || t.source_port < r.source_port[0] || t.source_port > r.source_port[1])) return false;
  if (!any_port(r.destination_port) && (!ports || t.destination_port < r.destination_port[0] || t.destination_port > r.destination_port[1]))
    return false;
  return within(t.source, r.source, r.source_prefix) && within(t.destination, r.destination, r.destination_prefix);
}

}  // namespace

Classification classify_in_turn(const Program& program, const Tuple& tuple) {
  const bool ports = tuple.protocol == kIpTcp || tuple.protocol == kIpUdp;
  for (const Rule& rule : program.all_rules()) {
    if (matches(rule, tuple, ports)) return {rule.action, rule.chain, rule.policy};
  }
  return {program.default_action, 0, kNoPolicy};
}

Classification classify(const Program& program, const Tuple& tuple) {
  if (program.all_rules().size() <= kFewRules) return classify_in_turn(program, tuple);
  const uint32_t first = program.all_rules_index().find(tuple);
  if (first == ClassifierIndex::kNone) return {program.default_action, 0, kNoPolicy};
  const Rule& rule = program.all_rules()[first];
  return {rule.action, rule.chain, rule.policy};
}

}  // namespace weir
