#include "engine/classifier_index.h"

#include <algorithm>

#include "engine/flow_key.h"
#include "engine/program.h"
#include "wire/ip.h"

namespace weir {
namespace {

// Protocols with ports come first, so that "any protocol with this port" is an interval too.
constexpr int32_t kLastWithPorts = 1, kLastProtocol = 2 + 255;
int32_t protocol_code(uint8_t protocol) { return protocol == kIpTcp ? 0 : protocol == kIpUdp ? 1 : 2 + protocol; }

void set(Box& b, Dimension d, int32_t low, int32_t high) { b.low[d] = low, b.high[d] = high; }
void set_value(Box& b, Dimension d, bool any, int32_t value) { set(b, d, any ? 0 : value, any ? 65535 : value); }
bool any_port(const uint16_t range[2]) { return range[0] == 0 && range[1] == 65535; }

}  // namespace

void ClassifierIndex::build(const std::vector<Rule>& rules) {
  sources_ = {}, destinations_ = {};
  for (const Rule& r : rules) {
    sources_.add(r.source, r.source_prefix);
    destinations_.add(r.destination, r.destination_prefix);
  }
  sources_.seal();
  destinations_.seal();
  std::vector<Box> boxes(rules.size());
  for (size_t i = 0; i < rules.size(); i++) {
    const Rule& r = rules[i];
    Box& b = boxes[i];
    const auto source = sources_.ranks(r.source, r.source_prefix), destination = destinations_.ranks(r.destination, r.destination_prefix);
    set(b, kSourceAddress, source.low, source.high);
    set(b, kDestinationAddress, destination.low, destination.high);
    set(b, kSourcePort, r.source_port[0], r.source_port[1]);
    set(b, kDestinationPort, r.destination_port[0], r.destination_port[1]);
    set(b, kProtocol, 0, kLastProtocol);
    if (r.protocol != 255) set(b, kProtocol, protocol_code(r.protocol), protocol_code(r.protocol));
    // A rule that asks for ports never matches a protocol without; if it names one, its box is empty.
    if (!any_port(r.source_port) || !any_port(r.destination_port)) b.high[kProtocol] = std::min(b.high[kProtocol], kLastWithPorts);
    set_value(b, kDirection, r.direction == 0, r.direction);
    set_value(b, kCapture, r.capture == 65535, r.capture);
    set_value(b, kVlan, r.vlan == 65535, r.vlan);
  }
  tree_.build(boxes);
}

uint32_t ClassifierIndex::find(const Tuple& t) const {
  Point p;
  p.at[kSourceAddress] = sources_.rank(t.source);
  p.at[kDestinationAddress] = destinations_.rank(t.destination);
  p.at[kSourcePort] = t.source_port;
  p.at[kDestinationPort] = t.destination_port;
  p.at[kProtocol] = protocol_code(t.protocol);
  p.at[kDirection] = t.direction == Direction::out ? 1 : 2;
  p.at[kCapture] = t.capture;
  p.at[kVlan] = t.vlan_outer;
  return tree_.find(p);
}

}  // namespace weir
