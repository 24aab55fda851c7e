// A service node that hands packets on by a service map: where they go, what they look like then, and what is refused.
#include <doctest/doctest.h>

#include <random>

#include "mesh_nodes.h"

using namespace weir;
using namespace weir::test;

TEST_CASE("a packet goes on to the next instance: addresses, index and TTL, the rest as it was") {
  MeshNode t;
  t.expected = 1;
  const std::vector<Sent> sent = t.run({{kStamped, {}}});
  REQUIRE(sent.size() == 1);
  const Bytes& f = sent[0].bytes;
  const auto map = map_of();  // the step points into it
  const MeshStep step = map->next(10, 255, kCode);
  REQUIRE(step.kind == MeshStep::Kind::instance);
  CHECK(f[5] == step.place->mac.bytes[5]);
  CHECK(f[11] == 11);
  CHECK(f[29] == 11);
  CHECK(f[33] == step.place->address.bytes[15]);
  CHECK(f[kSiAt] == 254);
  CHECK((load16(f.data() + kTtlAt) >> 6 & 63) == 62);
  CHECK(checksum_is_right(f));
  CHECK(Bytes(f.begin() + kStampAt + kNshStamp, f.end()) == Bytes(kStamped.begin() + kStampAt + kNshStamp, kStamped.end()));
  CHECK(t.node->counters().handed_on.packets.get() == 1);
}

TEST_CASE("the last service sends to the forwarder; a path that is not on the map goes back") {
  auto last = map_of();
  last->own_service = 2;
  MeshNode t(last);
  t.expected = 2;
  Bytes from_other = with(with(kStamped, kSiAt, {253}), 26, {10, 20, 0, 21});
  Bytes unknown = with(from_other, kSpiAt, {0, 0, 20});
  fix_ip(from_other);
  fix_ip(unknown);
  const std::vector<Sent> sent = t.run({{from_other, {}}, {unknown, {}}});
  REQUIRE(sent.size() == 2);
  for (const Sent& one : sent) {
    CHECK(one.bytes[33] == 1);  // to weir, though it came from another instance
    CHECK(one.bytes[5] == 1);
    CHECK(one.bytes[kSiAt] == 252);
    CHECK(checksum_is_right(one.bytes));
  }
  CHECK(t.node->counters().unknown_path.get() == 1);
}

TEST_CASE("frames of many datagrams leave as one where all go the same way, else each goes its own") {
  // Two streams whose next instance is not the same one.
  uint32_t other = 0;
  const auto map = map_of();
  while (map->next(10, 255, other).place->address == map->next(10, 255, kCode).place->address) other++;
  const Bytes datagram(kStamped.begin() + kStampAt, kStamped.end());
  auto batch = [&](std::vector<uint32_t> codes) {
    Bytes frame(kStamped.begin(), kStamped.begin() + kStampAt);
    for (const uint32_t code : codes) {
      Bytes one = datagram;
      store32(one.data() + 20, code);
      frame.insert(frame.end(), one.begin(), one.end());
    }
    const uint32_t length = uint32_t(frame.size()) - 34;
    store16(frame.data() + 16, uint16_t(length + 20));
    store16(frame.data() + 38, uint16_t(length));
    fix_ip(frame);
    return Sent{frame, batch_offload(34, uint32_t(datagram.size()))};
  };
  MeshNode same;
  same.expected = 3;
  std::vector<Sent> sent = same.run({batch({kCode, kCode, kCode})});
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].offload.gso_size == datagram.size());
  CHECK(checksum_is_right(sent[0].bytes));
  for (int i = 0; i < 3; i++) CHECK(sent[0].bytes[kSiAt + size_t(i) * datagram.size()] == 254);
  // Partial: the pseudo-header's sum over the new addresses.
  const uint8_t* ip4 = sent[0].bytes.data() + kEthernetHeader;
  uint16_t sum;
  std::memcpy(&sum, sent[0].bytes.data() + 40, 2);
  CHECK(sum == checksum_fold(checksum_pseudo(ip4 + 12, 8, kIpUdp, uint32_t(sent[0].bytes.size()) - 34)));

  MeshNode mixed;
  mixed.expected = 3;
  sent = mixed.run({batch({kCode, other, kCode})});
  REQUIRE(sent.size() == 3);
  CHECK(sent[0].bytes[33] == sent[2].bytes[33]);
  CHECK(sent[0].bytes[33] != sent[1].bytes[33]);
  for (const Sent& one : sent) {
    CHECK(one.bytes.size() == kStamped.size());
    CHECK(one.bytes[kSiAt] == 254);
    CHECK(checksum_is_right(one.bytes));
  }
}

TEST_CASE("refused and counted: no such index, another service, a loop, a stranger, nobody left, no link address") {
  auto check = [](std::shared_ptr<MeshMap> map, Bytes frame, NodeDrop reason) {
    fix_ip(frame);
    REQUIRE(map->check().empty());
    MeshNode t(std::move(map));
    t.expected = 1;
    CHECK(t.run({{frame, {}}}).empty());
    CHECK(t.dropped(reason) == 1);
  };
  check(map_of(), with(kStamped, kSiAt, {252}), NodeDrop::bad_index);
  check(map_of(), with(kStamped, kSiAt, {1}), NodeDrop::bad_index);
  check(map_of(), with(kStamped, kSiAt, {0}), NodeDrop::si_zero);
  check(map_of(), with(kStamped, kSiAt, {254}), NodeDrop::wrong_service);
  Bytes tired = kStamped;
  store16(tired.data() + kTtlAt, uint16_t((load16(tired.data() + kTtlAt) & 0xf03f) | 1 << 6));
  check(map_of(), tired, NodeDrop::ttl_expired);
  check(map_of(), with(kStamped, 26, {10, 99, 0, 1}), NodeDrop::stranger);
  auto nobody = map_of();
  nobody->paths[5].hops[1].members.clear();
  check(nobody, kStamped, NodeDrop::no_instance);
  check(map_of(false), kStamped, NodeDrop::unresolved);
  auto twice = map_of();
  twice->paths[5].hops[1].members = {{0, 1}};
  check(twice, kStamped, NodeDrop::loop);
}

TEST_CASE("who came late serves what nobody before it is left to serve") {
  for (uint32_t code = 0; code < 1000; code++) {
    auto map = map_of();
    std::vector<Member>& members = map->paths[5].hops[1].members;
    auto place = [&] { return map->next(10, 255, code).place->address; };
    members = {{1, 1}};
    CHECK(place() == ip(10, 20, 0, 21));
    members = {{1, 1}, {2, 65535, 1}};
    CHECK(place() == ip(10, 20, 0, 21));
    members = {{2, 1, 1}};
    CHECK(place() == ip(10, 20, 0, 22));
    members = {{2, 1, 1}, {1, 65535, 2}};
    CHECK(place() == ip(10, 20, 0, 22));
  }
  auto map = map_of();
  map->paths[5].hops[1].members = {{2, 1, 1}, {1, 1, 0}};
  CHECK(map->check() == "path 5 has members whose tiers do not go up");
}

TEST_CASE("where a service may be missing, the one after it is next") {
  auto map = map_of();
  map->paths[5].hops[1].members.clear();
  map->paths[5].hops[1].fail_open = true;
  const MeshStep step = map->next(10, 255, kCode);
  CHECK(step.kind == MeshStep::Kind::instance);
  CHECK(step.place->address == ip(10, 20, 0, 31));
  CHECK(step.si == 253);
}

TEST_CASE("whatever comes from the underlay is handed on, returned or refused, and read within its end") {
  std::mt19937 random(11);
  MeshNode t;
  std::vector<Sent> frames;
  for (int i = 0; i < 5000; i++) {
    Bytes frame = kStamped;
    for (uint32_t n = random() % 4; n; n--) frame[14 + random() % (frame.size() - 14)] = uint8_t(random());
    if (random() % 4 == 0) frame.resize(random() % frame.size());
    Offload offload;
    if (random() % 3 == 0) offload = batch_offload(34, 1 + random() % 100);
    frames.push_back({frame, offload});
  }
  t.expected = 0;
  const std::vector<Sent> sent = t.run(std::move(frames));
  CHECK(!sent.empty());
}

TEST_CASE("a datagram that came in fragments is handed on in fragments, to the instance whose turn it is") {
  Bytes whole = kStamped;
  whole.resize(whole.size() + 3000, 'w');
  store16(&whole[16], uint16_t(whole.size() - 14));
  store16(&whole[38], uint16_t(whole.size() - 34));
  fix_ip(whole);
  FrameCollector cut;
  const Piece piece{whole.data(), uint32_t(whole.size())};
  REQUIRE(cut_outer({0, {}, {&piece, 1}}, 1500, 7, cut) == 3);
  MeshNode n;
  n.expected = 1;
  std::vector<Sent> fragments;
  for (CollectedFrame& f : cut.frames()) fragments.push_back({f.bytes, {}});
  const std::vector<Sent> sent = n.run(fragments);
  REQUIRE(sent.size() == 3);
  OuterReassembly reassembly;
  FrameCollector sink;
  for (const Sent& s : sent) {
    Bytes copy = s.bytes;
    CHECK(copy.size() <= 14 + 1500);
    CHECK(checksum_is_right(copy));
    CHECK((copy[33] == 21 || copy[33] == 22));
    CHECK(copy[29] == 11);
    const Frame frame{copy.data(), uint32_t(copy.size()), uint32_t(copy.size()), 0, {}, false};
    const auto result = reassembly.add(read_outer_fragment(frame), frame, 1, sink);
    if (result.outcome != OuterReassembly::Outcome::whole) continue;
    CHECK(outer_checksum_ok(result.frame, read_outer(result.frame)));
    CHECK(result.frame.bytes[kSiAt] == 254);
    CHECK(std::equal(whole.begin() + kSiAt + 1, whole.end(), result.frame.bytes + kSiAt + 1));
  }
  CHECK(n.node->counters().handed_on.packets.get() == 1);
}
