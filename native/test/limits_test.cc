// What goes beyond a limit: of a program, or of the way that a packet has to take.
#include <doctest/doctest.h>

#include "engine/fragment_table.h"
#include "engine/segment.h"
#include "frames.h"
#include "wire/checksum.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr PortId kIn = capture_in_port(0), kOut = capture_out_port(0);

}  // namespace

TEST_CASE("paths that are moved in a circle are refused") {
  auto p = program(Encapsulation::nsh);
  p->paths.push_back({.id = 2, .chain = 0, .moved_to = 3, .services = {0}});
  p->paths.push_back({.id = 3, .chain = 0, .moved_to = 2, .services = {1}});
  CHECK(p->check() == "path 2 is moved in a circle");
  p->paths[2].moved_to = 1;
  CHECK(p->check() == "");
}

TEST_CASE("fragments that another worker saw, by a clock a moment ahead, are young") {
  FragmentTable table(16);
  const FragmentKey key{.id = 7};
  constexpr uint64_t kAhead = 1'000'000, kBehind = 999'000;
  table.remember(key, {1, 2}, kAhead, false);
  FragmentPorts ports;
  CHECK(table.find(key, kBehind, ports));
  CHECK(!table.find(key, kAhead + FragmentTable::kLifetimeNs, ports));
  Bytes bytes(100);
  const Frame frame{bytes.data(), 100, 100, 0, {}, false};
  REQUIRE(table.hold(key, kIn, frame, kAhead));
  CHECK(table.expire(kBehind) == 0);
  CHECK(table.expire(kAhead + FragmentTable::kHoldNs) == 1);
}

TEST_CASE("what an instance made too long for the capture is cut, or dropped with its reason") {
  for (const auto encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    for (const bool tcp : {true, false}) {
      Engine engine({.flows = 16});
      auto p = program(encapsulation);
      p->captures[0].mtu = 1000;
      p->paths[0].services = {0};
      REQUIRE(p->check() == "");
      engine.install(p);
      Bytes frame = packet(tcp ? kIpTcp : kIpUdp, 2, 5000, Tcp::kAck);
      if (!tcp) store16(&frame[38], uint16_t(8 + 12));
      const auto sent = process(engine, kIn, frame);
      REQUIRE(sent.size() == 1);
      Bytes back = sent[0].bytes;
      const size_t inner = back.size() - (frame.size() - (encapsulation == Encapsulation::nsh ? 0 : 14)) + (encapsulation == Encapsulation::nsh ? 14 : 0);
      back.resize(back.size() + 1200);
      store16(&back[16], uint16_t(back.size() - 14));
      Ipv4::finish(&back[14]);
      store16(&back[38], uint16_t(back.size() - 34));
      for (int i = 0; i < 4; i++) std::swap(back[26 + i], back[30 + i]);
      if (encapsulation == Encapsulation::nsh) back[57]--;
      store16(&back[inner + 2], uint16_t(back.size() - inner));
      Ipv4::finish(&back[inner]);
      if (!tcp) store16(&back[inner + 24], uint16_t(back.size() - inner - 20));
      const Frame whole{&back[inner], uint32_t(back.size() - inner), uint32_t(back.size() - inner), 0, {}, false};
      Packet packet;
      parse_ip(whole.bytes, whole.length, whole.length, packet);
      REQUIRE(packet.verdict == Packet::Verdict::steer);
      if (tcp) {  // a right checksum: what is cut must not hide damage
        store16(&back[inner + 36], 0);
        checksum_store(&back[inner + 36], uint16_t(~checksum_fold(checksum_add(&back[inner + 20], uint32_t(back.size() - inner - 20), pseudo_sum(packet, uint32_t(back.size() - inner - 20))))));
      }
      const auto out = process(engine, kUnderlayPort, back);
      CHECK(engine.counters().came() == engine.counters().went());
      if (!tcp) {
        CHECK(out.empty());
        CHECK(dropped(engine, DropReason::too_big) == 1);
        continue;
      }
      REQUIRE(out.size() == 2);
      for (const auto& piece : out) {
        CHECK(piece.port == kOut);
        CHECK(piece.bytes.size() <= 1014);
        CHECK(load16(&piece.bytes[12]) == 0x0800);
      }
    }
  }
}

TEST_CASE("a datagram that is fragmented on its way to an instance comes back, every piece of it") {
  for (const auto encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    Engine engine({.flows = 16});
    auto p = program(encapsulation);
    p->paths[0].services = {0};
    REQUIRE(p->check() == "");
    engine.install(p);
    Bytes frame = packet(kIpUdp, 2, 5000, 0);
    frame.resize(14 + 1500);
    store16(&frame[16], 1500);
    store16(&frame[20], 0);  // may be fragmented
    store16(&frame[38], 1480);
    store16(&frame[40], 0);
    Ipv4::finish(&frame[14]);
    auto pieces = process(engine, kIn, frame);
    REQUIRE(pieces.size() == 2);
    std::swap(pieces[0], pieces[1]);  // in whatever order
    for (auto& piece : pieces) {
      Bytes& back = piece.bytes;
      for (int i = 0; i < 4; i++) std::swap(back[26 + i], back[30 + i]);
      if (encapsulation == Encapsulation::nsh) back[57]--;
      const auto out = process(engine, kUnderlayPort, back);
      REQUIRE(out.size() == 1);
      CHECK(out[0].port == kOut);
    }
    CHECK(engine.counters().came() == engine.counters().went());
  }
}
