// A full flow table: streams that made-up senders open take each other's places, not those of streams that are alive.
#include <doctest/doctest.h>

#include "frames.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr PortId kIn = capture_in_port(0), kOut = capture_out_port(0);

// Sends, and forgets what comes of it.
void feed(Engine& engine, PortId port, Bytes frame, uint64_t now) {
  static FrameCollector sink;
  Frame f{frame.data(), uint32_t(frame.size()), uint32_t(frame.size()), 0, {}, false};
  engine.process(now, port, f, sink);
  sink.clear();
}

void establish(Engine& engine, uint32_t n, uint64_t now) {
  feed(engine, kIn, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kSyn), now);
  feed(engine, kOut, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kSyn | Tcp::kAck, true), now);
  feed(engine, kIn, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kAck), now);
}

uint32_t alive(const Engine& engine, uint32_t streams) {
  uint32_t found = 0;
  for (uint32_t number = 1; number <= engine.flows().high_water(); number++) {
    const Flow* flow = engine.flows().at(number);
    if (!flow || flow->tcp != TcpState::established) continue;
    const uint16_t port = std::max(flow->key.port_a, flow->key.port_b);
    found += port >= 10'000 && port < 10'000 + streams;
  }
  return found;
}

}  // namespace

TEST_CASE("a flood of made-up senders does not put out streams that are alive, whatever it is made of") {
  // `answered`: as a listener does, which knows no better either.
  struct Kind { uint8_t protocol, flags; bool answered = false; };
  for (const Kind kind : {Kind{kIpTcp, Tcp::kSyn}, {kIpTcp, Tcp::kSyn, true}, {kIpTcp, Tcp::kAck}, {kIpTcp, Tcp::kSyn | Tcp::kAck}, {kIpTcp, Tcp::kFin | Tcp::kAck}, {kIpUdp, 0}}) {
    for (const uint32_t established : {50u, 450u, 500u}) {
      CAPTURE(int(kind.flags));
      CAPTURE(kind.answered);
      CAPTURE(established);
      Engine engine({.flows = 500});
      engine.install(program(Encapsulation::nsh));
      for (uint32_t n = 0; n < established; n++) establish(engine, n, kSecond);
      REQUIRE(alive(engine, established) == established);
      for (uint32_t n = 0; n < 5'000; n++) {
        feed(engine, kIn, packet(kind.protocol, 1000 + n, 4000, kind.flags), 60 * kSecond + n * 1000);
        if (kind.answered) feed(engine, kOut, packet(kind.protocol, 1000 + n, 4000, Tcp::kSyn | Tcp::kAck, true), 60 * kSecond + n * 1000);
        if (n % 64 == 0) engine.tick(60 * kSecond + n * 1000);
      }
      // One had to make room for the first of the flood where there was none.
      CHECK(alive(engine, established) >= established - (established == 500 ? 1 : 0));
      CHECK(engine.counters().streams_active.get() == engine.flows().size());
    }
  }
}

TEST_CASE("who opens a stream in the midst of a flood is answered in time") {
  Engine engine({.flows = 4096});
  engine.install(program(Encapsulation::nsh));
  uint32_t flooded = 0;
  const auto flood = [&](uint32_t packets) {
    for (uint32_t i = 0; i < packets; i++, flooded++) feed(engine, kIn, packet(kIpTcp, 1000 + flooded, 4000, Tcp::kSyn), kSecond + flooded * 1000);
  };
  flood(10'000);
  for (uint32_t n = 0; n < 20; n++) {
    const uint64_t opened = engine.counters().streams_opened.get(), now = kSecond + flooded * 1000;
    feed(engine, kIn, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kSyn), now);
    flood(200);
    feed(engine, kOut, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kSyn | Tcp::kAck, true), now);
    feed(engine, kIn, packet(kIpTcp, 2, uint16_t(10'000 + n), Tcp::kAck), now);
    CHECK(engine.counters().streams_opened.get() == opened + 201);
  }
  flood(10'000);
  CHECK(alive(engine, 20) == 20);
}

TEST_CASE("an ICMP error about a stream does not make it one that was answered") {
  Engine engine({.flows = 16});
  engine.install(program(Encapsulation::nsh));
  const Bytes opening = packet(kIpUdp, 2, 5000, 0);
  process(engine, kIn, opening);
  Bytes error = packet(kIpIcmp, 2, 0, 0, true);
  error.resize(34);
  const Bytes quoted(opening.begin() + 14, opening.end());
  for (const uint8_t byte : {3, 3, 0, 0, 0, 0, 0, 0}) error.push_back(byte);
  error.insert(error.end(), quoted.begin(), quoted.end());
  store16(&error[16], uint16_t(error.size() - 14));
  Ipv4::finish(&error[14]);
  process(engine, kOut, error);
  REQUIRE(engine.flows().size() == 1);
  CHECK(engine.flows().at(1)->packets == 2);
  CHECK_FALSE(answered(*engine.flows().at(1)));
  process(engine, kOut, packet(kIpUdp, 2, 5000, 0, true));
  CHECK(answered(*engine.flows().at(1)));
}
