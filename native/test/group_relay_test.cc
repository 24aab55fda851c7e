// A group with a primary node: who directs, who hands back, who serves, and what stays where it is.
#include <doctest/doctest.h>

#include <algorithm>

#include "node/group_relay.h"
#include "stamped_frames.h"

using namespace weir;
using namespace weir::test;

namespace {

struct Node {
  Group group;
  GroupRelay relay;
  KeepingPort port;
  uint32_t now_s = 1000;

  Node(bool ipv6, uint8_t own, bool primary) {
    group.primary = primary;
    group.own_id = own;
    group.own = at(ipv6, own);
    group.own_mac = mac(own);
    for (uint8_t id = 11; id <= 13; id++) group.members.push_back({.id = id, .address = at(ipv6, id), .mac = mac(id), .usable = true, .takes_new = true, .seed = {id * 77u, id * 991u}});
    REQUIRE(group.check() == "");
  }

  GroupRelay::Way take(const Bytes& bytes) {
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    Frame frame{exact.get(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
    const StampedFrame outer = read_outer(frame);
    REQUIRE(outer.result == StampedFrame::Result::ok);
    return relay.take(frame, outer, group, now_s, port);
  }
};

using Way = GroupRelay::Way;

uint32_t code_for(const Node& node, uint8_t member) {
  for (uint32_t code = 1;; code++)
    if (node.group.choose(code) == member) return code;
}

}  // namespace

TEST_CASE("the primary serves its share and directs the rest; what comes back goes on to the forwarder under the member's address") {
  for (const bool ipv6 : {false, true}) {
    Node primary(ipv6, 11, true);
    CHECK(primary.take(stamped(ipv6, 1, 11, code_for(primary, 11))) == Way::here);
    CHECK(primary.port.sent.empty());

    const uint32_t code = code_for(primary, 12);
    CHECK(primary.take(stamped(ipv6, 1, 11, code)) == Way::sent);
    REQUIRE(primary.port.sent.size() == 1);
    StampedFrame outer = outer_of(primary.port.sent[0]);
    CHECK(outer.source == at(ipv6, 11));
    CHECK(outer.destination == at(ipv6, 12));
    CHECK(goes_to(primary.port.sent[0], mac(12)));

    CHECK(primary.take(stamped(ipv6, 12, 11, code, 254)) == Way::sent);
    outer = outer_of(primary.port.sent[1]);
    CHECK(outer.source == at(ipv6, 12));
    CHECK(outer.destination == at(ipv6, 1));
    CHECK(goes_to(primary.port.sent[1], mac(1)));
    CHECK(primary.relay.counters().chosen.get() == 2);
    CHECK(primary.relay.counters().directed.packets.get() == 1);
    CHECK(primary.relay.counters().handed_back.packets.get() == 1);
  }
}

TEST_CASE("a stream stays where it was directed, whatever shares become, and when the role goes to another member") {
  Node primary(false, 11, true), other(false, 12, false);
  const uint32_t code = code_for(primary, 12);
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::sent);
  for (auto& m : primary.group.members) m.weight = m.id == 13 ? 65535 : 1;
  CHECK(primary.group.choose(code) == 13);
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::sent);
  CHECK(outer_of(primary.port.sent[1]).destination == at(false, 12));

  CHECK(other.take(stamped(false, 11, 12, code)) == Way::here);
  other.group.primary = true;
  for (auto& m : other.group.members) m.weight = m.id == 13 ? 65535 : 1;
  CHECK(other.take(stamped(false, 1, 12, code)) == Way::here);
  const uint32_t fresh = code_for(other, 13);
  CHECK(other.take(stamped(false, 1, 12, fresh)) == Way::sent);
  // What it had directed comes back to it also when it is the primary no longer.
  other.group.primary = false;
  CHECK(other.take(stamped(false, 13, 12, fresh, 254)) == Way::sent);
  CHECK(outer_of(other.port.sent[1]).destination == at(false, 1));
}

TEST_CASE("streams of a member that is gone are directed anew; one that drains keeps its own and gets no others") {
  Node primary(false, 11, true);
  const uint32_t code = code_for(primary, 12);
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::sent);
  primary.group.members[1].takes_new = false;
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::sent);
  CHECK(outer_of(primary.port.sent[1]).destination == at(false, 12));
  for (uint32_t other = 1; other < 500; other++) CHECK(primary.group.choose(other) != 12);
  primary.group.members[1].usable = false;
  primary.group.members[2].usable = false;
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::here);
  primary.group.members[2].usable = true;
  CHECK(primary.take(stamped(false, 1, 11, code)) == Way::here);
}

TEST_CASE("who is no primary serves what it gets, and a stream that a member returns unasked is served, not sent round") {
  Node secondary(false, 12, false);
  for (uint32_t code = 1; code < 100; code++) CHECK(secondary.take(stamped(false, 1, 12, code)) == Way::here);
  CHECK(secondary.take(stamped(false, 13, 12, 7777)) == Way::here);
  CHECK(secondary.port.sent.empty());
}

TEST_CASE("more streams than there is room for: those that were silent longest are forgotten, and counted") {
  Node primary(false, 11, true);
  for (uint32_t n = 0; n <= GroupRelay::kWays; n++) {
    primary.now_s++;
    primary.take(stamped(false, 1, 11, 5 + n * GroupRelay::kBuckets));
  }
  CHECK(primary.relay.counters().forgotten.get() == 1);
  CHECK(primary.relay.counters().chosen.get() == GroupRelay::kWays + 1);
  primary.take(stamped(false, 1, 11, 5 + GroupRelay::kBuckets));
  CHECK(primary.relay.counters().chosen.get() == GroupRelay::kWays + 1);
}

TEST_CASE("groups that make no sense are refused") {
  Group none;
  CHECK(none.check() == "this member is not among them");
  Node node(false, 11, true);
  node.group.members[1].address = node.group.members[0].address;
  CHECK(node.group.check() == "two members have one id or one address");
  node.group.members[1].weight = 0;
  CHECK(node.group.check() != "");
}
