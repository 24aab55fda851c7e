// Units of an appliance: packets of streams that a unit does not know find the unit that does, whatever map their dispatcher has.
#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

#include "node/second_chance.h"
#include "stamped_frames.h"

using namespace weir;
using namespace weir::test;

namespace {

using Way = SecondChance::Way;

constexpr uint8_t kSyn = 0x02, kAck = 0x10, kFin = 0x01, kRst = 0x04;

Bytes tcp(uint8_t flags, bool answer = false) { return packet(kIpTcp, 1 << 16 | 2, 40000, flags, answer); }

// A unit at 10.20.0.N; dispatchers are at .1, .2, .3, units 0, 1, … at .11, .12, …
struct UnitNode {
  UnitMaps maps;
  SecondChance chance;
  KeepingPort port;
  uint32_t now_s = 1000;
  NodeDrop reason = NodeDrop::count_;
  Bytes served;  // the last frame that this unit served, as it would be turned round

  UnitNode(bool ipv6, uint16_t own) {
    maps.own = {at(ipv6, uint8_t(11 + own)), mac(uint8_t(11 + own)), true};
    maps.own_unit = own;
    for (uint8_t d = 1; d <= 3; d++) maps.dispatchers.push_back({at(ipv6, d), mac(d), true});
    for (uint8_t u = 0; u < 12; u++) maps.units.push_back({{at(ipv6, uint8_t(11 + u)), mac(uint8_t(11 + u)), true}, {u * 77u + 5, u * 991u + 3}});
  }
  void know(uint32_t version, std::initializer_list<uint16_t> members) {
    UnitMap map{version, {}};
    for (const uint16_t m : members) map.members.push_back({m, 1});
    maps.maps.push_back(map);
  }
  void open(uint32_t version) {
    maps.opened = version;
    REQUIRE(maps.check() == "");
  }
  Way take(const Bytes& bytes) {
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    Frame frame{exact.get(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
    const StampedFrame outer = read_outer(frame);
    REQUIRE(outer.result == StampedFrame::Result::ok);
    const SecondChance::Outcome outcome = chance.take(frame, outer, maps, now_s, port);
    reason = outcome.reason;
    if (outcome.way == Way::here) served.assign(exact.get(), exact.get() + bytes.size());
    return outcome.way;
  }
};

// A code that these two maps give to these units.
uint32_t code_of(const UnitNode& node, uint16_t by_old, uint16_t by_new) {
  for (uint32_t code = 1;; code++)
    if (node.maps.owner(0, code) == by_old && node.maps.owner(node.maps.maps.size() - 1, code) == by_new) return code;
}

}  // namespace

TEST_CASE("a mid-stream packet goes on to the unit that had the stream, and comes back to its dispatcher with its stamp as it was") {
  for (const bool ipv6 : {false, true}) {
    UnitNode former(ipv6, 0), fresh(ipv6, 2);
    for (UnitNode* node : {&former, &fresh}) {
      node->know(1, {0, 1});
      node->open(1);
    }
    const auto code = [&] {
      UnitNode probe(ipv6, 0);
      probe.know(1, {0, 1});
      probe.know(2, {0, 1, 2});
      probe.open(2);
      return code_of(probe, 0, 2);
    }();
    CHECK(former.take(stamped(ipv6, 1, 11, code, 255, tcp(kSyn))) == Way::here);
    CHECK(former.chance.counters().opened.get() == 1);
    CHECK(former.chance.counters().opened_midstream.get() == 0);
    for (UnitNode* node : {&former, &fresh}) {
      node->know(2, {0, 1, 2});
      node->open(2);
    }
    // By another dispatcher, which has the new map.
    const Bytes before = stamped(ipv6, 2, 13, code, 255, tcp(kAck));
    CHECK(fresh.take(before) == Way::sent);
    REQUIRE(fresh.port.sent.size() == 1);
    Bytes& passed = fresh.port.sent[0];
    const StampedFrame outer = outer_of(passed);
    CHECK(outer.source == at(ipv6, 2));
    CHECK(outer.destination == at(ipv6, 11));
    CHECK(goes_to(passed, mac(11)));
    CHECK(passed[outer.payload + SecondChance::kMark] == SecondChance::mark_of(1));
    CHECK(fresh.chance.counters().opened.get() == 0);

    CHECK(former.take(passed) == Way::here);
    CHECK(former.chance.counters().taken_up.packets.get() == 1);
    CHECK(std::equal(former.served.begin() + outer.payload, former.served.end(), before.begin() + outer.payload, before.end()));
    Frame frame{former.served.data(), uint32_t(former.served.size()), uint32_t(former.served.size()), 0, {}, false};
    CHECK(outer_checksum_ok(frame, read_outer(frame)));
    uint32_t datagrams;
    CHECK(turn_round(frame, read_outer(frame), datagrams) == NodeDrop::count_);
    CHECK(goes_to(former.served, mac(2)));
    CHECK(outer_of(former.served).destination == at(ipv6, 2));
  }
}

TEST_CASE("a stream that nobody knows is opened by the unit that the newest opened map gives it, wherever its packets come in") {
  for (const uint16_t first : {0, 1, 2}) {
    UnitNode nodes[3] = {{false, 0}, {false, 1}, {false, 2}};
    for (UnitNode& node : nodes) {
      node.know(1, {0, 1});
      node.know(2, {0, 1, 2});
      node.open(2);
    }
    const uint32_t code = code_of(nodes[0], 0, 2);
    uint16_t where = first;
    Bytes frame = stamped(false, 1, uint8_t(11 + where), code);
    int passes = 0;
    while (nodes[where].take(frame) == Way::sent) {
      frame = nodes[where].port.sent.back();
      where = uint16_t(outer_of(frame).destination.bytes[15] - 11);
      REQUIRE(++passes <= 3);
    }
    CHECK(where == 2);
  }
}

TEST_CASE("a map that is there but not opened yet: its new units know where streams are, and open none") {
  UnitNode former(false, 0), fresh(false, 2);
  for (UnitNode* node : {&former, &fresh}) {
    node->know(1, {0, 1});
    node->know(2, {0, 1, 2});
    node->open(1);
  }
  const uint32_t code = code_of(former, 0, 2);
  CHECK(fresh.take(stamped(false, 1, 13, code)) == Way::sent);
  CHECK(former.take(fresh.port.sent[0]) == Way::here);
  former.open(2);
  // Those that were opened under the old map stay; others are the new unit's.
  CHECK(former.take(stamped(false, 1, 11, code)) == Way::here);
  uint32_t other = code + 1;
  while (former.maps.owner(0, other) != 0 || former.maps.owner(1, other) != 2) other++;
  CHECK(former.take(stamped(false, 1, 11, other)) == Way::sent);
  CHECK(fresh.take(former.port.sent[0]) == Way::here);  // though it has not heard that the map is open
  CHECK(fresh.chance.counters().opened.get() == 1);
}

TEST_CASE("a packet that was passed on by a map which the next unit has dropped, or does not have yet") {
  UnitNode node(false, 2);
  node.know(254, {0, 1, 2});
  node.know(257, {0, 1, 3});
  node.know(258, {0, 1, 3});
  node.open(258);
  auto marked = [&](uint32_t version, uint32_t code) {
    Bytes frame = stamped(false, 1, 13, code);
    frame[outer_of(frame).payload + SecondChance::kMark] = SecondChance::mark_of(version);
    return frame;
  };
  const uint32_t code = code_of(node, 2, 3);
  CHECK(node.take(marked(253, code)) == Way::sent);  // older than all: asked from the beginning
  CHECK(node.port.sent[0][outer_of(node.port.sent[0]).payload + SecondChance::kMark] == SecondChance::mark_of(257));
  CHECK(node.take(marked(255, code)) == Way::sent);  // one in between
  CHECK(node.port.sent[1][outer_of(node.port.sent[1]).payload + SecondChance::kMark] == SecondChance::mark_of(257));
  CHECK(node.take(marked(259, code)) == Way::here);  // newer than all: this unit is the last that is asked
}

TEST_CASE("units that were given up, or can't be reached, are not asked") {
  UnitNode fresh(false, 2);
  fresh.know(1, {0, 1});
  fresh.know(2, {0, 1, 2});
  fresh.open(2);
  const uint32_t code = code_of(fresh, 0, 2);
  fresh.maps.units[0].place.resolved = false;
  CHECK(fresh.take(stamped(false, 1, 13, code)) == Way::here);
  UnitNode again(false, 2);
  again.maps = fresh.maps;
  again.maps.units[0].place.resolved = true;
  again.maps.maps[0].members = {{1, 1}};  // it was given up
  CHECK(again.take(stamped(false, 1, 13, code)) == Way::sent);
  CHECK(outer_of(again.port.sent[0]).destination == at(false, 12));
}

TEST_CASE("strangers get nothing, and what comes from a unit for a dispatcher without a link address can't be answered") {
  UnitNode node(false, 0);
  node.know(1, {0, 1});
  node.open(1);
  CHECK(node.take(stamped(false, 9, 11, 7)) == Way::refused);
  CHECK(node.reason == NodeDrop::stranger);
  CHECK(node.take(stamped(false, 12, 11, 7)) == Way::refused);  // a unit sends under the dispatcher's address only
  Bytes marked = stamped(false, 1, 11, 7);
  marked[outer_of(marked).payload + SecondChance::kMark] = SecondChance::mark_of(1);
  node.maps.dispatchers[0].resolved = false;
  CHECK(node.take(marked) == Way::refused);
  CHECK(node.reason == NodeDrop::unresolved);
}

TEST_CASE("streams end: by silence, by both FINs, by a reset; and are counted by the map that has them here") {
  UnitNode node(false, 0);
  node.know(1, {0, 1});
  node.know(2, {0, 1, 2});
  node.open(1);
  std::vector<uint32_t> codes;
  for (uint32_t code = 1; codes.size() < 4; code++)
    if (node.maps.owner(0, code) == 0 && node.maps.owner(1, code) == (codes.size() < 2 ? 2 : 0)) codes.push_back(code);
  for (const uint32_t code : codes) CHECK(node.take(stamped(false, 1, 11, code, 255, tcp(kSyn))) == Way::here);
  auto live = [&] { return node.chance.live(node.maps, node.now_s); };
  CHECK(live().streams == 4);
  CHECK(live().by_map == std::vector<uint32_t>{2, 2});
  CHECK(live().elsewhere == 0);
  node.take(stamped(false, 1, 11, codes[0], 255, tcp(kFin | kAck)));
  node.take(stamped(false, 1, 11, codes[1], 255, tcp(kRst)));
  node.take(stamped(false, 1, 11, codes[2], 255, tcp(kFin | kAck)));
  node.take(stamped(false, 1, 11, codes[2], 255, tcp(kFin | kAck, true)));
  node.now_s += SecondChance::kIdleClosed + 1;
  CHECK(live().streams == 2);  // one half closed, one open
  node.now_s += SecondChance::kIdleTcp + 1;
  CHECK(live().streams == 0);
  node.maps.own_unit = UnitMaps::kNobody;
  CHECK(node.take(stamped(false, 1, 11, codes[3], 255, tcp(kAck))) == Way::sent);
  node.chance.forget_all();
  CHECK(live().streams == 0);
}

TEST_CASE("more streams than there is room for: those that were silent longest are forgotten, and counted") {
  UnitNode node(false, 0);
  node.know(1, {0});
  node.open(1);
  for (uint32_t n = 0; n <= SecondChance::kWays; n++) {
    node.now_s++;
    CHECK(node.take(stamped(false, 1, 11, 5 + n * SecondChance::kBuckets)) == Way::here);
  }
  CHECK(node.chance.counters().forgotten.get() == 1);
  CHECK(node.chance.counters().opened.get() == SecondChance::kWays + 1);
  node.take(stamped(false, 1, 11, 5 + SecondChance::kBuckets));
  CHECK(node.chance.counters().opened.get() == SecondChance::kWays + 1);
}

TEST_CASE("a hundred changes at random under streams through any dispatcher: each stream has one unit") {
  // Units hear of a map in any order, dispatchers afterwards, and then units that it is opened; packets travel all the while.
  std::mt19937 random(7);
  std::vector<std::unique_ptr<UnitNode>> nodes;
  for (uint16_t i = 0; i < 12; i++) nodes.push_back(std::make_unique<UnitNode>(false, i));
  std::set<uint16_t> members{0, 1, 2, 3};
  UnitMap map{1, {}};
  for (const uint16_t m : members) map.members.push_back({m, 1});
  for (auto& node : nodes) {
    node->maps.maps = {map};
    node->open(1);
  }
  UnitMaps dispatchers[3];
  for (UnitMaps& d : dispatchers) d = nodes[0]->maps;
  std::map<uint32_t, uint16_t> served;
  std::vector<uint32_t> alive;
  uint32_t next_code = 1, broken = 0;
  auto traffic = [&] {
    for (int n = 0; n < 40; n++) {
      const bool fresh = alive.size() < 300;
      const uint32_t code = fresh ? next_code++ : alive[random() % alive.size()];
      if (fresh) alive.push_back(code);
      const uint8_t dispatcher = uint8_t(random() % 3);
      const UnitMaps& has = dispatchers[dispatcher];
      uint16_t where = has.owner(has.maps.size() - 1, code);
      Bytes frame = stamped(false, uint8_t(dispatcher + 1), uint8_t(11 + where), code);
      int passes = 0;
      while (nodes[where]->take(frame) == Way::sent) {
        frame = nodes[where]->port.sent.back();
        where = uint16_t(outer_of(frame).destination.bytes[15] - 11);
        REQUIRE(++passes <= 18);
      }
      const auto [at, first] = served.emplace(code, where);
      broken += !first && at->second != where;
    }
    for (auto& node : nodes) node->port.sent.clear();
  };
  auto all = [&](auto&& work) {
    std::vector<size_t> order(nodes.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      work(*nodes[i]);
      if (i % 3 == 0) traffic();
    }
  };
  for (uint32_t version = 2; version <= 100; version++) {
    if (members.size() > 8 || (members.size() > 2 && random() % 2)) {
      members.erase(std::next(members.begin(), random() % members.size()));
    } else {
      for (uint16_t add = uint16_t(random() % 12);; add = uint16_t(random() % 12))
        if (members.insert(add).second) break;
    }
    UnitMap next{version, {}};
    for (const uint16_t m : members) next.members.push_back({m, 1});
    all([&](UnitNode& node) {
      node.maps.maps.push_back(next);
      REQUIRE(node.maps.check() == "");
    });
    for (UnitMaps& d : dispatchers) {
      d.maps.push_back(next);
      traffic();
    }
    all([&](UnitNode& node) { node.open(version); });
    // Streams end; a map that no live stream needs any more is dropped.
    for (size_t i = 0; i < alive.size() / 5; i++) alive.erase(alive.begin() + random() % alive.size());
    while (nodes[0]->maps.maps.size() > 1) {
      bool needed = nodes[0]->maps.maps.size() < 3;
      for (const uint32_t code : alive) {
        size_t by = nodes[0]->maps.maps.size();
        while (by > 0 && nodes[0]->maps.owner(by - 1, code) != served[code]) by--;
        needed |= by == 1;
      }
      if (needed && nodes[0]->maps.maps.size() < UnitMaps::kMostMaps) break;
      if (needed) {  // forced: those streams end
        std::erase_if(alive, [&](uint32_t code) {
          for (size_t i = 1; i < nodes[0]->maps.maps.size(); i++)
            if (nodes[0]->maps.owner(i, code) == served[code]) return false;
          return true;
        });
      }
      all([&](UnitNode& node) {
        node.maps.maps.erase(node.maps.maps.begin());
        REQUIRE(node.maps.check() == "");
      });
    }
  }
  CHECK(served.size() > 5000);
  CHECK(broken == 0);
}

TEST_CASE("maps that make no sense are refused") {
  UnitNode node(false, 0);
  CHECK(node.maps.check() != "");
  node.know(1, {0, 1});
  node.maps.opened = 2;
  CHECK(node.maps.check() == "the opened map is not there");
  node.open(1);
  node.maps.units[3].place.address = node.maps.units[2].place.address;
  CHECK(node.maps.check() == "two units have one address");
  node.maps.units[3].place.address = at(false, 99);
  node.know(1, {0});
  CHECK(node.maps.check() != "");
  node.maps.maps[1].version = 300;
  CHECK(node.maps.check() != "");
  node.maps.maps[1] = {2, {{77, 1}}};
  CHECK(node.maps.check() == "map 2 has a member that is not there");
}
