// `fragment: true` through the pipeline: what can't be cut and does not fit goes to its instances in outer fragments and comes back so;
// everything else is as it is without.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "frames.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr PortId kIn = capture_in_port(0), kOut = capture_out_port(0);
constexpr uint64_t kNow = 1'000'000'000;  // late enough for ICMP errors to be allowed

Address ip6(uint8_t last) {
  uint8_t bytes[16] = {0xfd, 0x20};
  bytes[15] = last;
  return Address::from_ipv6(bytes);
}

std::shared_ptr<Program> fragmenting(Encapsulation encapsulation, bool ipv6 = false, bool fragment = true) {
  auto p = program(encapsulation);
  p->underlays[0].ipv6 = ip6(1);
  p->underlays[0].fragment = fragment;
  p->captures[0].mtu = 9300;
  for (Instance& i : p->instances)
    if (ipv6) i.address = ip6(uint8_t(11 + i.id));
  REQUIRE(p->check() == "");
  return p;
}

std::vector<CollectedFrame> run(Engine& engine, PortId port, const Bytes& bytes, const Offload& offload = {}, uint64_t now = kNow, bool carries = true) {
  Bytes copy = bytes;
  copy.insert(copy.begin(), 192, 0);
  Frame frame{copy.data() + 192, uint32_t(bytes.size()), uint32_t(bytes.size()), 192, offload, false};
  TestSink sink(carries);
  engine.process(now, port, frame, sink);
  return std::move(sink.collector.frames());
}

// UDP with so many bytes behind its header; IPv4 with DF or not.
Bytes varied_datagram(uint32_t length, bool may_fragment = false) {
  Bytes f = packet(kIpUdp, 0x010002, 40000, 0);
  f.resize(42);
  for (uint32_t i = 0; i < length; i++) f.push_back(uint8_t(i * 11 + (i >> 8)));
  store16(&f[16], uint16_t(28 + length));
  store16(&f[38], uint16_t(8 + length));
  if (may_fragment) store16(&f[20], 0);
  Ipv4::finish(&f[14]);
  return f;
}

Bytes datagram6(uint32_t length) {
  Bytes f = hex("0200000000bb0200000000aa86dd6000000000001140fd010000000000000000000000000002fd0200000000000000000000000000029c401389");
  f.resize(62);
  store16(&f[18], uint16_t(8 + length));
  store16(&f[58], uint16_t(8 + length));
  for (uint32_t i = 0; i < length; i++) f.push_back(uint8_t(i * 13 + (i >> 8)));
  const uint16_t sum = uint16_t(~checksum_fold(checksum_add(&f[54], 8 + length, checksum_pseudo(&f[22], 32, kIpUdp, 8 + length))));
  checksum_store(&f[60], sum);
  return f;
}

bool is_fragment(const CollectedFrame& f) {
  Bytes copy = f.bytes;
  return read_outer_fragment({copy.data(), uint32_t(copy.size()), uint32_t(copy.size()), 0, {}, false}).kind == OuterFragment::Kind::fragment;
}

// The instance's side: whole again, turned round, and cut like what came. Nothing where they make no datagram.
std::vector<CollectedFrame> instance(const std::vector<CollectedFrame>& sent, Bytes* whole = nullptr, uint32_t mtu = 1500, uint32_t id = 4711) {
  OuterReassembly reassembly;
  FrameCollector sink, back;
  for (const CollectedFrame& f : sent) {
    Bytes copy = f.bytes;
    const Frame frame{copy.data(), uint32_t(copy.size()), uint32_t(copy.size()), 0, {}, false};
    const OuterFragment fragment = read_outer_fragment(frame);
    REQUIRE(fragment.kind == OuterFragment::Kind::fragment);
    const auto result = reassembly.add(fragment, frame, 1, sink);
    if (result.outcome != OuterReassembly::Outcome::whole) continue;
    Frame turned = result.frame;
    const StampedFrame outer = read_outer(turned);
    REQUIRE(outer.result == StampedFrame::Result::ok);
    CHECK(outer_checksum_ok(turned, outer));
    if (whole) *whole = Bytes(turned.bytes, turned.bytes + turned.length);
    uint32_t datagrams;
    REQUIRE(turn_round(turned, outer, datagrams) == NodeDrop::count_);
    const Piece piece{turned.bytes, turned.length};
    REQUIRE(cut_outer({f.port, {}, {&piece, 1}}, mtu, id, back) > 1);
  }
  return std::move(back.frames());
}

std::vector<CollectedFrame> send_all(Engine& engine, const std::vector<CollectedFrame>& frames, uint64_t now = kNow) {
  std::vector<CollectedFrame> out;
  for (const CollectedFrame& f : frames)
    for (CollectedFrame& o : run(engine, f.port, f.bytes, f.offload, now)) out.push_back(std::move(o));
  return out;
}

bool accounted(const Engine& engine) { return engine.counters().came() == engine.counters().went(); }

}  // namespace

TEST_CASE("fragments are as long as the way to their own instance carries") {
  auto p = fragmenting(Encapsulation::nsh);
  p->instances[1].state = p->instances[3].state = InstanceState::down;
  p->instances[0].way_mtu = 1300;
  p->instances[2].way_mtu = 1400;
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  std::vector<CollectedFrame> at = run(engine, kIn, varied_datagram(1400));
  for (const size_t longest : {1300u, 1400u}) {
    REQUIRE(at.size() == 2);
    CHECK(at[0].bytes.size() <= 14 + longest);
    CHECK(at[0].bytes.size() > 14 + longest - 8);
    at = send_all(engine, instance(at, nullptr, longest));
  }
  REQUIRE(at.size() == 1);
  CHECK(at[0].bytes == varied_datagram(1400));
  CHECK(accounted(engine));
}

TEST_CASE("what can't be cut goes through both services in fragments and leaves as it came") {
  for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    for (const bool ipv6 : {false, true}) {
      for (const Bytes& packet : {varied_datagram(1472), datagram6(1452), varied_datagram(5001), varied_datagram(9188)}) {
        Engine engine({100});
        engine.install(fragmenting(encapsulation, ipv6));
        std::vector<CollectedFrame> at = run(engine, kIn, packet);
        for (int hop = 0; hop < 2; hop++) {
          REQUIRE(at.size() == (packet.size() > 5000 ? packet.size() > 9000 ? 7 : 4 : 2));
          for (const CollectedFrame& f : at) {
            CHECK(f.port == kUnderlayPort);
            CHECK(is_fragment(f));
            CHECK(f.bytes.size() <= 14 + 1500);
          }
          std::vector<CollectedFrame> back = instance(at);
          std::reverse(back.begin(), back.end());
          at = send_all(engine, back);
        }
        REQUIRE(at.size() == 1);
        CHECK(at[0].port == kOut);
        // Geneve carries no Ethernet header: that comes from what the stream is known to have.
        CHECK(at[0].bytes == packet);
        const Counters& c = engine.counters();
        CHECK(c.stamped.packets.get() == 2);
        CHECK(c.returned.packets.get() == 2);
        CHECK(c.delivered.packets.get() == 1);
        CHECK(c.fragmented.get() == 2);
        CHECK(c.reassembled.get() == 2);
        CHECK(c.fragments_sent.get() == c.fragments_received.get());
        CHECK(accounted(engine));
      }
    }
  }
}

TEST_CASE("a checksum that offloading left to the hardware is made before the packet is stamped whole") {
  Engine engine({100});
  engine.install(fragmenting(Encapsulation::nsh));
  Bytes packet = varied_datagram(1472);
  checksum_store(&packet[40], checksum_fold(checksum_pseudo(&packet[26], 8, kIpUdp, 1480)));
  const auto sent = run(engine, kIn, packet, {Offload::kNeedsChecksum, Offload::kGsoNone, 42, 0, 34, 6});
  REQUIRE(sent.size() == 2);
  const auto out = send_all(engine, instance(send_all(engine, instance(sent))));
  REQUIRE(out.size() == 1);
  CHECK(checksum_fold(checksum_add(&out[0].bytes[34], 1480, checksum_pseudo(&out[0].bytes[26], 8, kIpUdp, 1480))) == 0xffff);
}

TEST_CASE("UDP super-frames whose datagrams do not fit: each of them in fragments") {
  Engine engine({100});
  engine.install(fragmenting(Encapsulation::nsh));
  Bytes packet = varied_datagram(3 * 1472);
  checksum_store(&packet[40], checksum_fold(checksum_pseudo(&packet[26], 8, kIpUdp, 8 + 3 * 1472)));
  const auto sent = run(engine, kIn, packet, {Offload::kNeedsChecksum, Offload::kGsoUdp, 42, 1472, 34, 6});
  REQUIRE(sent.size() == 6);
  CHECK(engine.counters().stamped.packets.get() == 3);
  const auto out = send_all(engine, instance(send_all(engine, instance(sent))));
  REQUIRE(out.size() == 3);
  for (size_t i = 0; i < 3; i++) CHECK(std::equal(out[i].bytes.begin() + 42, out[i].bytes.end(), packet.begin() + 42 + long(i) * 1472));
  CHECK(accounted(engine));
}

TEST_CASE("what fits, TCP, and IPv4 that may be fragmented inside are what they are without") {
  std::map<std::string, std::pair<Bytes, Offload>> packets;
  packets["what just fits"] = {varied_datagram(1500 - 68 - 28), {}};
  packets["may be fragmented"] = {varied_datagram(1472, true), {}};
  packets["and is long"] = {varied_datagram(4000, true), {}};
  Bytes tcp = packet(kIpTcp, 0x010002, 40000, Tcp::kAck);
  tcp.resize(54 + 13'000, 'y');
  store16(&tcp[16], uint16_t(tcp.size() - 14));
  Ipv4::finish(&tcp[14]);
  checksum_store(&tcp[50], checksum_fold(checksum_pseudo(&tcp[26], 8, kIpTcp, 20 + 13'000)));
  packets["TCP super-frame"] = {tcp, {Offload::kNeedsChecksum, Offload::kGsoTcp4, 54, 1460, 34, 16}};
  tcp.resize(54 + 1460);
  store16(&tcp[16], 1500);
  Ipv4::finish(&tcp[14]);
  checksum_store(&tcp[50], 0);
  checksum_store(&tcp[50], uint16_t(~checksum_fold(checksum_add(&tcp[34], 1480, checksum_pseudo(&tcp[26], 8, kIpTcp, 1480)))));
  packets["TCP segment"] = {tcp, {}};
  for (const auto& [what, sent] : packets) {
    CAPTURE(what);
    for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
      for (const bool carries : {true, false}) {
        Engine with({100}), without({100});
        with.install(fragmenting(encapsulation));
        without.install(fragmenting(encapsulation, false, false));
        const auto a = run(with, kIn, sent.first, sent.second, kNow, carries), b = run(without, kIn, sent.first, sent.second, kNow, carries);
        REQUIRE(a.size() == b.size());
        for (size_t i = 0; i < a.size(); i++) {
          CHECK(a[i].port == kUnderlayPort);
          CHECK(a[i].bytes == b[i].bytes);
          CHECK(std::memcmp(&a[i].offload, &b[i].offload, sizeof(Offload)) == 0);
          CHECK_FALSE(is_fragment(a[i]));
        }
      }
    }
  }
}

TEST_CASE("without the option its sender is told as before; with it, of what fragments may hold") {
  Engine without({100}), with({100});
  without.install(fragmenting(Encapsulation::nsh, false, false));
  with.install(fragmenting(Encapsulation::nsh));
  for (const bool option : {false, true}) {
    Engine& engine = option ? with : without;
    const auto told = run(engine, kIn, varied_datagram(option ? kFragmentedRoom - 8 - 24 - 14 - 28 + 1 : 1472));
    REQUIRE(told.size() == 1);
    CHECK(told[0].port == kIn);
    CHECK(told[0].bytes[34] == 3);
    const uint32_t mtu = load16(&told[0].bytes[40]);
    CHECK(mtu == (option ? kFragmentedRoom - 8 - 24 - 14 : 1500 - 66));
    CHECK(dropped(engine, DropReason::too_big) == 1);
    CHECK(accounted(engine));
    if (option) CHECK(run(engine, kIn, varied_datagram(mtu - 28)).size() > 1);
  }
}

TEST_CASE("a path over an underlay that does not fragment is held to what fits there") {
  auto p = program(Encapsulation::nsh);
  p->underlays[0].fragment = true;
  p->underlays.push_back({ip(10, 30, 0, 1), {}, {{2, 0, 0, 0, 3, 1}}, 1400});
  for (const size_t i : {2u, 3u}) p->instances[i].underlay = 1, p->instances[i].address = ip(10, 30, 0, uint8_t(11 + i));
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  const auto told = run(engine, kIn, varied_datagram(1400 - 66 - 28 + 1));
  REQUIRE(told.size() == 1);
  CHECK(told[0].port == kIn);
  CHECK(load16(&told[0].bytes[40]) == 1400 - 66);
  // The other way about: whole on the wide one, in fragments on the narrow one.
  std::swap(p->underlays[0].fragment, p->underlays[1].fragment);
  REQUIRE(p->check() == "");
  Engine narrow({100});
  narrow.install(p);
  const auto first = run(narrow, kIn, varied_datagram(1500 - 66 - 28));
  REQUIRE(first.size() == 1);
  CHECK(first[0].port == kUnderlayPort);
  CHECK_FALSE(is_fragment(first[0]));
  const auto second = run(narrow, kUnderlayPort, turned(first[0]).bytes);
  REQUIRE(second.size() == 2);
  for (const CollectedFrame& f : second) {
    CHECK(f.port == 3);
    CHECK(f.bytes.size() <= 14 + 1400);
  }
  const auto out = send_all(narrow, instance(second, nullptr, 1400));
  REQUIRE(out.size() == 1);
  CHECK(out[0].port == kOut);
  CHECK(accounted(narrow));
}

TEST_CASE("what an instance made longer goes on in fragments") {
  Engine engine({100});
  auto p = fragmenting(Encapsulation::geneve);
  engine.install(p);
  const auto sent = run(engine, kIn, varied_datagram(1400));
  REQUIRE(sent.size() == 1);
  CHECK_FALSE(is_fragment(sent[0]));
  CollectedFrame back = turned(sent[0]);
  back.bytes.resize(back.bytes.size() + 600, 'z');
  const uint32_t inner = 34 + 8 + 40;
  store16(&back.bytes[16], uint16_t(back.bytes.size() - 14));
  store16(&back.bytes[38], uint16_t(back.bytes.size() - 34));
  store16(&back.bytes[inner + 2], uint16_t(back.bytes.size() - inner));
  store16(&back.bytes[inner + 24], uint16_t(back.bytes.size() - inner - 20));
  Ipv4::finish(&back.bytes[14]);
  Ipv4::finish(&back.bytes[inner]);
  const auto next = run(engine, kUnderlayPort, back.bytes);
  REQUIRE(next.size() == 2);
  Bytes whole;
  instance(next, &whole);
  CHECK(whole.size() == back.bytes.size());
  CHECK(accounted(engine));
}

TEST_CASE("an attached instance between two stamped ones gets the packet whole") {
  auto p = fragmenting(Encapsulation::nsh);
  p->proxy_ports = {{{{2, 0, 0, 0, 1, 5}}, 1500}, {{{2, 0, 0, 0, 1, 6}}, 1500}};
  Instance bump;
  bump.id = 4;
  bump.service = 2;
  bump.resolved = true;
  bump.reach = Instance::Reach::bump;
  bump.legs[0].port = 3;
  bump.legs[1].port = 4;
  p->services.push_back({.id = 2});
  p->instances.push_back(bump);
  for (const auto& services : {std::vector<uint16_t>{0, 2, 1}, {2, 0}}) {
    p->paths[0].services = services;
    REQUIRE(p->check() == "");
    Engine engine({100});
    engine.install(p);
    std::vector<CollectedFrame> at = run(engine, kIn, varied_datagram(1472));
    if (services[0] == 0) {
      REQUIRE(at.size() == 2);
      at = send_all(engine, instance(at));
    }
    REQUIRE(at.size() == 1);
    CHECK(at[0].port == 3);
    CHECK(at[0].bytes == varied_datagram(1472));
    at = run(engine, 4, at[0].bytes);
    REQUIRE(at.size() == 2);
    at = send_all(engine, instance(at));
    REQUIRE(at.size() == 1);
    CHECK(at[0].port == kOut);
    CHECK(at[0].bytes == varied_datagram(1472));
    CHECK(accounted(engine));
  }
}

TEST_CASE("fragments that never become whole are dropped with a reason, and each datagram counts once") {
  Engine engine({100});
  engine.install(fragmenting(Encapsulation::nsh));
  const auto back = instance(run(engine, kIn, varied_datagram(4000)));
  REQUIRE(back.size() == 3);
  // Late.
  CHECK(send_all(engine, {back[0], back[1]}).empty());
  CHECK(accounted(engine));
  engine.tick(kNow + OuterReassembly::kTimeoutNs - 1);
  CHECK(dropped(engine, DropReason::return_fragment_timeout) == 0);
  engine.tick(kNow + OuterReassembly::kTimeoutNs);
  CHECK(dropped(engine, DropReason::return_fragment_timeout) == 1);
  CHECK(engine.counters().returned.packets.get() == 1);
  CHECK(accounted(engine));
  // Overlapping.
  CollectedFrame other = back[1];
  other.bytes.back() ^= 1;
  CHECK(send_all(engine, {back[1], other, back[0], back[2]}).empty());
  CHECK(dropped(engine, DropReason::return_fragment_overlap) == 1);
  CHECK(engine.counters().returned.packets.get() == 2);
  CHECK(accounted(engine));
  // One that was damaged on its way: whole, and its checksum is wrong.
  engine.tick(kNow + 3 * OuterReassembly::kTimeoutNs);
  other = back[1];
  other.bytes.back() ^= 1;
  CHECK(send_all(engine, {back[0], other, back[2]}, kNow + 3 * OuterReassembly::kTimeoutNs).empty());
  CHECK(dropped(engine, DropReason::return_checksum) == 1);
  CHECK(accounted(engine));
  // With a length that lies.
  other = back[0];
  store16(&other.bytes[16], 5000);
  CHECK(send_all(engine, {other}).empty());
  CHECK(dropped(engine, DropReason::return_malformed) == 1);
  CHECK(accounted(engine));
}

TEST_CASE("fragments from strangers, for others, by another underlay, or without the option: not ours, and nothing is kept") {
  for (const int what : {0, 1, 2, 3}) {
    Engine engine({100});
    auto p = fragmenting(Encapsulation::nsh);
    p->underlays.push_back({ip(10, 30, 0, 1), {}, {{2, 0, 0, 0, 3, 1}}, 1500, true});
    REQUIRE(p->check() == "");
    engine.install(p);
    auto back = instance(run(engine, kIn, varied_datagram(1472)));
    REQUIRE(back.size() == 2);
    if (what == 3) {
      auto off = fragmenting(Encapsulation::nsh, false, false);
      engine.install(off);
    }
    for (CollectedFrame& f : back) {
      if (what == 0) f.bytes[29] = 99;                                // from nobody
      if (what == 1) f.bytes[33] = 99;                                // for somebody else
      if (what == 2) f.port = 3, f.bytes[31] = 30, f.bytes[33] = 1;  // for this host's other address, there
    }
    CHECK(send_all(engine, back).empty());
    CHECK(engine.counters().ignored.get() == 2);
    CHECK(engine.counters().fragments_received.get() == 0);
    CHECK(engine.state().reassembly.waiting() == 0);
    CHECK(accounted(engine));
  }
}

TEST_CASE("a flood of fragments from one instance's address: bounded, accounted for, and others' get through") {
  Engine engine({100});
  engine.install(fragmenting(Encapsulation::nsh));
  auto honest = instance(run(engine, kIn, varied_datagram(1472)));
  const uint8_t first = honest[0].bytes[29];  // of the instance that has the stream
  CHECK(send_all(engine, {honest[0]}).empty());
  for (uint32_t id = 0; id < 1000; id++) {
    CollectedFrame f = honest[0];
    f.bytes[29] = uint8_t(first == 11 ? 12 : 11);
    store16(&f.bytes[18], uint16_t(id));
    Ipv4::finish(&f.bytes[14]);
    CHECK(run(engine, kUnderlayPort, f.bytes).empty());
  }
  CHECK(dropped(engine, DropReason::return_fragment_overflow) == 1000 - OuterReassembly::kWays);
  CHECK(engine.state().reassembly.waiting() == OuterReassembly::kWays + 1);
  CHECK(run(engine, kUnderlayPort, honest[1].bytes).size() == 2);  // whole, and on to the next
  engine.tick(kNow + OuterReassembly::kTimeoutNs);
  CHECK(dropped(engine, DropReason::return_fragment_timeout) == OuterReassembly::kWays);
  CHECK(accounted(engine));
}
