// Several underlays: instances of one service on each, chains over both, and packets that come back the wrong way.
#include <doctest/doctest.h>

#include "engine/cut_frame.h"
#include "frames.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

// Port 0 is the first underlay, 1 and 2 the capture, 3 the second underlay.
constexpr PortId kSecond = 3;

// Of both services the second instance is on the second underlay, and the only one of its service that is up where `apart` says so:
// then each stream meets instance 0 on the first underlay, and instance 3 on the second.
std::shared_ptr<Program> two_underlays(Encapsulation encapsulation, bool apart, uint32_t first_mtu = 1500, uint32_t second_mtu = 1500) {
  auto p = program(encapsulation);
  p->captures[0].mtu = 9000;
  p->underlays[0].mtu = first_mtu;
  p->underlays.push_back({ip(10, 30, 0, 1), {}, {{2, 0, 0, 0, 3, 1}}, second_mtu});
  for (const size_t i : {1u, 3u}) {
    p->instances[i].underlay = 1;
    p->instances[i].address = ip(10, 30, 0, uint8_t(11 + i));
  }
  if (apart) p->instances[1].state = p->instances[2].state = InstanceState::down;
  REQUIRE(p->check() == "");
  return p;
}

std::vector<CollectedFrame> run(Engine& engine, PortId port, const std::vector<Bytes>& all, const Offload& offload = {}) {
  std::vector<Bytes> copies = all;
  std::vector<Frame> frames;
  for (Bytes& copy : copies) {
    copy.insert(copy.begin(), 192, 0);
    frames.push_back({copy.data() + 192, uint32_t(copy.size() - 192), uint32_t(copy.size() - 192), 192, offload, false});
  }
  TestSink sink(true);
  engine.process(1'000'000'000, port, frames, sink);  // late enough for ICMP errors to be allowed
  return std::move(sink.collector.frames());
}

Bytes tcp_super_frame(uint32_t payload) {
  Bytes f = packet(kIpTcp, 0x010002, 40000, Tcp::kAck);
  f.resize(54 + payload, 'y');
  store16(&f[16], uint16_t(f.size() - 14));
  Ipv4::finish(&f[14]);
  checksum_store(&f[50], checksum_fold(checksum_pseudo(&f[26], 8, kIpTcp, 20 + payload)));
  return f;
}

constexpr Offload kTcp{Offload::kNeedsChecksum, Offload::kGsoTcp4, 54, 1300, 34, 16};

uint8_t last_byte_of_source(const CollectedFrame& f) { return f.bytes[29]; }
uint8_t network_of_source(const CollectedFrame& f) { return f.bytes[27]; }
uint8_t network_of_destination(const CollectedFrame& f) { return f.bytes[31]; }

}  // namespace

TEST_CASE("a chain over both underlays: out by each with its addresses, super-frames whole, back together at the end") {
  for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    Engine engine({100});
    engine.install(two_underlays(encapsulation, true));
    const Bytes frame = tcp_super_frame(13'000);
    const auto first = run(engine, 1, {frame}, kTcp);
    REQUIRE(first.size() == 1);
    CHECK(first[0].port == kUnderlayPort);
    CHECK(first[0].offload.gso() == Offload::kGsoUdp);
    CHECK(network_of_source(first[0]) == 20);
    CHECK(network_of_destination(first[0]) == 20);
    const auto second = run(engine, kUnderlayPort, {turned(first[0]).bytes}, first[0].offload);
    REQUIRE(second.size() == 1);
    CHECK(second[0].port == kSecond);
    CHECK(second[0].offload.gso() == Offload::kGsoUdp);
    CHECK(network_of_source(second[0]) == 30);
    CHECK(network_of_destination(second[0]) == 30);
    CHECK(std::memcmp(&second[0].bytes[6], "\2\0\0\0\3\1", 6) == 0);
    const auto out = run(engine, kSecond, {turned(second[0]).bytes}, second[0].offload);
    REQUIRE(out.size() == 1);
    CHECK(out[0].port == 2);
    CHECK(out[0].bytes == frame);
    CHECK(engine.counters().came() == engine.counters().went());
  }
}

TEST_CASE("streams on both underlays in one batch: no frame holds datagrams for both") {
  Engine engine({1000});
  engine.install(two_underlays(Encapsulation::nsh, false));
  std::vector<Bytes> group;
  for (uint32_t i = 0; i < 32; i++) group.push_back(datagram(200, 0x010002 + i % 8));
  uint32_t on[2] = {0, 0};
  for (const CollectedFrame& f : run(engine, 1, group)) {
    const bool second = f.port == kSecond;
    REQUIRE((second || f.port == kUnderlayPort));
    CHECK(network_of_source(f) == (second ? 30 : 20));
    CHECK(network_of_destination(f) == (second ? 30 : 20));
    const uint32_t payload = uint32_t(f.bytes.size()) - kOuter4;
    on[second] += f.offload.gso() == Offload::kGsoUdp ? (payload + f.offload.gso_size - 1) / f.offload.gso_size : 1;
  }
  CHECK(on[0] + on[1] == 32);
  CHECK(on[0] > 0);
  CHECK(on[1] > 0);
}

TEST_CASE("what comes back by another underlay than its instance's is refused, whatever it says") {
  for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    Engine engine({100});
    engine.install(two_underlays(encapsulation, true));
    const auto sent = run(engine, 1, {datagram(100)});
    REQUIRE(sent.size() == 1);
    const CollectedFrame back = turned(sent[0]);
    // For the address that this host has on the other underlay, as the instance there would send it.
    Bytes forged = back.bytes;
    forged[31] = 30;
    Ipv4::finish(&forged[14]);
    CHECK(run(engine, kSecond, {forged}).empty());
    CHECK(dropped(engine, DropReason::return_wrong_underlay) == 1);
    // For an address of this host that this underlay does not have: not ours there.
    CHECK(run(engine, kSecond, {back.bytes}).empty());
    CHECK(engine.counters().ignored.get() == 1);
    CHECK(engine.counters().instances[0].received.packets.get() == 0);
    CHECK(run(engine, kUnderlayPort, {back.bytes}).size() == 1);
    CHECK(engine.counters().came() == engine.counters().went());
  }
}

TEST_CASE("an instance that moves to the other underlay takes its streams along; its late packets are refused") {
  Engine engine({100});
  engine.install(two_underlays(Encapsulation::nsh, true));
  const auto before = run(engine, 1, {datagram(100)});
  REQUIRE(before.size() == 1);
  auto p = two_underlays(Encapsulation::nsh, true);
  p->instances[0].underlay = 1;
  REQUIRE(p->check() == "");
  engine.install(p);
  const auto after = run(engine, 1, {datagram(100)});
  REQUIRE(after.size() == 1);
  CHECK(after[0].port == kSecond);
  CHECK(network_of_source(after[0]) == 30);
  CHECK(run(engine, kUnderlayPort, {turned(before[0]).bytes}).empty());
  CHECK(dropped(engine, DropReason::return_wrong_underlay) == 1);
  CHECK(run(engine, kSecond, {turned(after[0]).bytes}).size() == 1);
}

TEST_CASE("underlays of different MTUs: streams are held to the narrowest of their path, others use what theirs has") {
  constexpr uint32_t kNarrow = 1500, kJumbo = 9000, kOverhead = 20 + 8 + 24 + 14;
  Engine engine({100});
  auto p = two_underlays(Encapsulation::nsh, true, kJumbo, kNarrow);
  engine.install(p);
  const uint32_t fits = kNarrow - kOverhead - 28;
  for (const uint32_t more : {0u, 1u}) {
    const auto sent = run(engine, 1, {datagram(fits + more)});
    REQUIRE(sent.size() == 1);
    // Longer: its sender is told at once, though the first instance could have had it.
    CHECK(sent[0].port == (more ? 1 : kUnderlayPort));
    if (more) CHECK(load16(&sent[0].bytes[40]) == kNarrow - kOverhead);
  }
  // Without the narrow one: whole.
  p = two_underlays(Encapsulation::nsh, true, kJumbo, kNarrow);
  p->paths[0].services = {0};
  p->instances[1].resolved = false;
  REQUIRE(p->check() == "");
  Engine wide({100});
  wide.install(p);
  const auto whole = run(wide, 1, {datagram(kJumbo - kOverhead - 28)});
  REQUIRE(whole.size() == 1);
  CHECK(whole[0].port == kUnderlayPort);
  CHECK(whole[0].bytes.size() == 14 + kJumbo);
}

TEST_CASE("what is too long for the next instance's underlay by the time it gets there is dropped with a reason") {
  Engine engine({100});
  engine.install(two_underlays(Encapsulation::nsh, true, 9000, 9000));
  const auto sent = run(engine, 1, {datagram(5000)});
  REQUIRE(sent.size() == 1);
  engine.install(two_underlays(Encapsulation::nsh, true, 9000, 1500));
  CHECK(run(engine, kUnderlayPort, {turned(sent[0]).bytes}).empty());
  CHECK(dropped(engine, DropReason::too_big) == 1);
  CHECK(engine.counters().came() == engine.counters().went());
}

TEST_CASE("one path over IPv4 and IPv6: packets are held to what fits behind the longer header") {
  auto p = two_underlays(Encapsulation::nsh, true);
  p->underlays[1].ipv6 = Address::from_ipv6(hex("fd300000000000000000000000000001").data());
  p->instances[3].address = Address::from_ipv6(hex("fd300000000000000000000000000021").data());
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  constexpr uint32_t kFits = 1500 - (40 + 8 + 24 + 14) - 28;
  const auto sent = run(engine, 1, {datagram(kFits)});
  REQUIRE(sent.size() == 1);
  const auto next = run(engine, kUnderlayPort, {turned(sent[0]).bytes});
  REQUIRE(next.size() == 1);
  CHECK(next[0].port == kSecond);
  CHECK(next[0].bytes.size() == 14 + 1500);
  const auto told = run(engine, 1, {datagram(kFits + 1)});
  REQUIRE(told.size() == 1);
  CHECK(told[0].port == 1);
}

TEST_CASE("probes and ICMP errors count on the instance's own underlay only") {
  auto p = two_underlays(Encapsulation::nsh, true);
  p->instances[3].probe = {1'000'000'000, 500'000'000, 2, 3, Encapsulation::nsh};
  REQUIRE(p->check() == "");
  Engine engine({100});
  engine.install(p);
  TestSink sink;
  engine.probe(1'000'000'000, sink);
  REQUIRE(sink.collector.frames().size() == 1);
  CollectedFrame probe = sink.collector.frames()[0];
  CHECK(probe.port == kSecond);
  CHECK(network_of_source(probe) == 30);
  CHECK(last_byte_of_source(probe) == 1);
  Frame frame{probe.bytes.data(), uint32_t(probe.bytes.size()), uint32_t(probe.bytes.size()), 0, {}, false};
  uint32_t datagrams;
  REQUIRE(turn_round(frame, read_outer(frame), datagrams) == NodeDrop::count_);
  Bytes elsewhere = probe.bytes;
  elsewhere[31] = 20;
  Ipv4::finish(&elsewhere[14]);
  run(engine, kUnderlayPort, {elsewhere});
  CHECK(engine.counters().probes_answered.get() == 0);
  CHECK(dropped(engine, DropReason::oam) == 1);
  run(engine, kSecond, {probe.bytes});
  CHECK(engine.counters().probes_answered.get() == 1);

  // 10.20.0.11 -> this host, port unreachable, quoting this host -> 10.20.0.11 UDP 4790.
  const Bytes error = hex("020000000001" "02000000000b" "0800" "4500003800000000400166530a14000b0a140001" "0303000000000000"
                          "4500002000004000401126980a1400010a14000b" "c00012b6000c0000");
  run(engine, kSecond, {error});
  CHECK(engine.counters().instances[0].unreachable.get() == 0);
  run(engine, kUnderlayPort, {error});
  CHECK(engine.counters().instances[0].unreachable.get() == 1);
}

TEST_CASE("programs with impossible underlays are refused") {
  auto p = program(Encapsulation::nsh);
  p->instances[2].underlay = 1;
  CHECK(p->check() == "instance 2 is on an underlay that is not there");
  p->underlays.resize(2);
  CHECK(p->check() == "");
  p->underlays.resize(kMostUnderlays + 1);
  CHECK(p->check() == "there are 17 underlays, and 1 to 16 can be");
  p->underlays.clear();
  CHECK(p->check() == "there are 0 underlays, and 1 to 16 can be");
}
