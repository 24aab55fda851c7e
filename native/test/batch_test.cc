// Super-frames: out to an instance as one write of datagrams, back as such, joined to one super-frame again at the end.
#include <doctest/doctest.h>

#include <deque>

#include "engine/cut_frame.h"
#include "frames.h"
#include "node/stamped_datagram.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

std::vector<CollectedFrame> carry(Engine& engine, PortId port, const Bytes& bytes, const Offload& offload = {}) {
  Bytes copy(192);
  copy.insert(copy.end(), bytes.begin(), bytes.end());
  Frame frame{copy.data() + 192, uint32_t(bytes.size()), uint32_t(bytes.size()), 192, offload, false};
  TestSink sink(true);
  engine.process(1, port, frame, sink);
  return std::move(sink.collector.frames());
}

// TCP over IPv4 or IPv6, `payload` bytes that count up, checksum left to the hardware, segments of `mss`.
Bytes super_frame(uint32_t payload, bool ipv6 = false, uint8_t flags = Tcp::kAck) {
  Bytes f = hex(ipv6 ? "0200000000bb0200000000aa86dd600000000000064020010db800000000000000000000000220010db8000200000000000000000002"
                     : "0200000000bb0200000000aa0800450000000007400040060000" "0a010002" "0a020002");
  const uint32_t ip_header = ipv6 ? 40 : 20, l4 = 14 + ip_header;
  f.resize(l4 + 32 + payload);
  store16(&f[l4], 40000);
  store16(&f[l4 + 2], 80);
  store32(&f[l4 + 4], 0xfffffff0);  // the sequence number wraps within the frame
  store32(&f[l4 + 8], 77);
  f[l4 + 12] = 0x80;
  f[l4 + 13] = flags;
  store16(&f[l4 + 14], 500);
  std::memcpy(&f[l4 + 20], "\x01\x01\x08\x0a\0\0\0\1\0\0\0\2", 12);
  for (uint32_t i = 0; i < payload; i++) f[l4 + 32 + i] = uint8_t(i * 7 + i / 256);
  if (ipv6) {
    store16(&f[18], uint16_t(32 + payload));
    checksum_store(&f[l4 + 16], checksum_fold(checksum_pseudo(&f[22], 32, kIpTcp, 32 + payload)));
  } else {
    store16(&f[16], uint16_t(f.size() - 14));
    Ipv4::finish(&f[14]);
    checksum_store(&f[l4 + 16], checksum_fold(checksum_pseudo(&f[26], 8, kIpTcp, 32 + payload)));
  }
  return f;
}

Offload tcp_offload(uint16_t mss, bool ipv6 = false) {
  return {Offload::kNeedsChecksum, ipv6 ? Offload::kGsoTcp6 : Offload::kGsoTcp4, uint16_t(ipv6 ? 86 : 66), mss, uint16_t(ipv6 ? 54 : 34), 16};
}

bool partial_udp_checksum_ok(const CollectedFrame& f) {
  const uint32_t udp = f.offload.checksum_start;
  uint16_t stored;
  std::memcpy(&stored, &f.bytes[udp + 6], 2);
  const uint32_t length = load16(&f.bytes[udp + 4]);
  return udp + length == f.bytes.size() && stored == checksum_fold(checksum_pseudo(&f.bytes[26], 8, kIpUdp, length));
}

// The frames that a receiver sees of what was delivered.
std::vector<Bytes> cut(const std::vector<CollectedFrame>& frames) {
  std::vector<Bytes> out;
  for (const CollectedFrame& f : frames) {
    if (f.offload.gso() == Offload::kGsoNone) {
      out.push_back(f.bytes);
      continue;
    }
    const Piece piece{f.bytes.data(), uint32_t(f.bytes.size())};
    FrameCollector sink;
    REQUIRE(cut_frame({f.port, f.offload, {&piece, 1}}, sink, [&](const OutFrame& frame) { sink.emit(frame); }));
    for (const CollectedFrame& c : sink.frames()) out.push_back(c.bytes);
  }
  return out;
}

// All the way: capture, first instance, second instance, out.
struct Journey {
  std::vector<CollectedFrame> to_first, to_second, delivered;
};

Journey travel(Engine& engine, const Bytes& frame, const Offload& offload) {
  Journey j;
  j.to_first = carry(engine, 1, frame, offload);
  for (const CollectedFrame& f : j.to_first)
    for (CollectedFrame& g : carry(engine, 0, turned(f).bytes, f.offload)) j.to_second.push_back(std::move(g));
  for (const CollectedFrame& f : j.to_second)
    for (CollectedFrame& g : carry(engine, 0, turned(f).bytes, f.offload)) j.delivered.push_back(std::move(g));
  return j;
}

}  // namespace

TEST_CASE("a super-frame is one write to each instance and one super-frame at the end") {
  for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    for (const bool ipv6 : {false, true}) {
      Engine engine({1000});
      engine.install(program(encapsulation));
      const Bytes frame = super_frame(20'000, ipv6);
      const Offload offload = tcp_offload(1300, ipv6);
      const Journey j = travel(engine, frame, offload);
      REQUIRE(j.to_first.size() == 1);
      CHECK(j.to_first[0].offload.gso() == Offload::kGsoUdp);
      CHECK(partial_udp_checksum_ok(j.to_first[0]));
      REQUIRE(j.to_second.size() == 1);
      CHECK(j.to_second[0].offload.gso_size == j.to_first[0].offload.gso_size);
      CHECK(partial_udp_checksum_ok(j.to_second[0]));
      CHECK(j.to_second[0].bytes.size() == j.to_first[0].bytes.size());
      REQUIRE(j.delivered.size() == 1);
      CHECK(j.delivered[0].offload.gso_size == 1300);
      CHECK(j.delivered[0].bytes == frame);  // with the same partial checksum
      CHECK(engine.counters().stamped.packets.get() == 2 * 16);
      CHECK(engine.counters().delivered.packets.get() == 16);
    }
  }
}

TEST_CASE("what a receiver sees is the same with and without super-frames") {
  for (const uint32_t payload : {1u, 1300u, 1301u, 2600u, 40'000u, 65'000u}) {
    for (const uint8_t flags : {Tcp::kAck, uint8_t(Tcp::kAck | Tcp::kPsh), uint8_t(Tcp::kAck | Tcp::kFin), uint8_t(Tcp::kAck | Tcp::kCwr), uint8_t(Tcp::kSyn | Tcp::kAck)}) {
      Engine carrying({1000}), plain({1000});
      for (Engine* e : {&carrying, &plain}) e->install(program(Encapsulation::nsh));
      const Bytes frame = super_frame(payload, false, flags);
      const std::vector<Bytes> got = cut(travel(carrying, frame, tcp_offload(1300)).delivered);
      std::vector<Bytes> expected;
      std::deque<CollectedFrame> way;
      for (CollectedFrame& f : process(plain, 1, frame, tcp_offload(1300))) way.push_back(std::move(f));
      while (!way.empty()) {
        const CollectedFrame f = std::move(way.front());
        way.pop_front();
        if (f.port != kUnderlayPort) {
          expected.push_back(f.bytes);
          continue;
        }
        for (CollectedFrame& g : process(plain, 0, turned(f).bytes)) way.push_back(std::move(g));
      }
      CHECK(got == expected);
    }
  }
}

TEST_CASE("a frame of datagrams is split where a port does not say how long they are") {
  for (const Encapsulation encapsulation : {Encapsulation::nsh, Encapsulation::geneve}) {
    for (const bool ipv6 : {false, true}) {
      for (const uint32_t payload : {1300u, 2600u, 20'000u, 1301u}) {
        Engine engine({1000});
        engine.install(program(encapsulation));
        const Bytes frame = super_frame(payload, ipv6);
        const std::vector<CollectedFrame> out = carry(engine, 1, frame, tcp_offload(1300, ipv6));
        const uint32_t datagrams = (payload + 1299) / 1300;
        REQUIRE(out.size() == 1);
        // As libpcap has it from a sender on the same host: the checksum yet to be made, no word of either.
        Bytes back = turned(out[0]).bytes;
        if (datagrams == 1) checksum_store(&back[40], checksum_fold(checksum_pseudo(&back[26], 8, kIpUdp, load16(&back[38]))));
        uint32_t delivered = 0;
        for (const CollectedFrame& f : process(engine, 0, back, {}, 1, true)) {
          CHECK(f.bytes.size() <= 42 + 24 + 1300 + 100);
          for (const CollectedFrame& g : process(engine, 0, turned(f).bytes, {}, 1, true)) delivered += g.port != kUnderlayPort;
        }
        CHECK(delivered == datagrams);
        CHECK(dropped(engine, DropReason::return_checksum) == 0);
        CHECK(engine.counters().returned.packets.get() == 2 * datagrams);
        // What nobody has yet to make has to be right.
        back[40] ^= 1;
        CHECK(process(engine, 0, back, {}, 1, true).empty());
        CHECK(dropped(engine, DropReason::return_checksum) == 1);
      }
    }
  }
}

TEST_CASE("a write holds at most 64 datagrams and 64 KiB") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  uint32_t datagrams = 0;
  for (const CollectedFrame& f : carry(engine, 1, super_frame(50'000), tcp_offload(500))) {
    const uint32_t n = (uint32_t(f.bytes.size()) - 42 + f.offload.gso_size - 1) / f.offload.gso_size;
    CHECK(n <= 64);
    CHECK(f.bytes.size() <= 65535);
    datagrams += n;
  }
  CHECK(datagrams == 100);
}

TEST_CASE("a segment that an instance damaged is never hidden behind a new checksum") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  std::vector<CollectedFrame> out = carry(engine, 1, super_frame(13'000), tcp_offload(1300));
  REQUIRE(out.size() == 1);
  CollectedFrame second = turned(carry(engine, 0, turned(out[0]).bytes, out[0].offload).at(0));
  const uint32_t size = second.offload.gso_size;
  for (const uint32_t damaged : {0u, 4u, 9u}) {
    CollectedFrame bad = second;
    bad.bytes[42 + damaged * size + 24 + 66 + 100] ^= 1;
    const std::vector<Bytes> frames = cut(carry(engine, 0, bad.bytes, bad.offload));
    REQUIRE(frames.size() == 10);
    for (uint32_t i = 0; i < 10; i++) {
      const Packet p = parse_frame({const_cast<uint8_t*>(frames[i].data()), uint32_t(frames[i].size()), uint32_t(frames[i].size()), 0, {}, false});
      const uint64_t pseudo = checksum_pseudo(&frames[i][26], 8, kIpTcp, p.end - p.transport);
      const bool ok = checksum_fold(checksum_add(&frames[i][p.transport], p.end - p.transport, pseudo)) == 0xffff;
      CHECK(ok == (i != damaged));
    }
  }
}

TEST_CASE("a bad datagram in a batch costs itself only") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  std::vector<CollectedFrame> out = carry(engine, 1, super_frame(13'000), tcp_offload(1300));
  CollectedFrame back = turned(out.at(0));
  back.bytes[42 + 3 * back.offload.gso_size + kNshPathWord + 3] = 7;  // an index that the path does not have
  const std::vector<CollectedFrame> next = carry(engine, 0, back.bytes, back.offload);
  REQUIRE(next.size() == 1);
  CHECK(next[0].bytes.size() == 42 + 9 * back.offload.gso_size);
  CHECK(partial_udp_checksum_ok(next[0]));
  CHECK(dropped(engine, DropReason::return_bad_index) == 1);
  // At the end of the path the gap in the sequence keeps the two parts apart.
  const std::vector<CollectedFrame> delivered = carry(engine, 0, turned(next[0]).bytes, next[0].offload);
  REQUIRE(delivered.size() == 2);
  CHECK(cut(delivered).size() == 9);
}

TEST_CASE("frames of one stream in a row become one write, and segments in frames of their own one super-frame") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const std::vector<Bytes> segments = cut(travel(engine, super_frame(6500), tcp_offload(1300)).delivered);
  REQUIRE(segments.size() == 5);
  // As one group, with a frame of another stream in their middle.
  std::vector<Bytes> frames = {segments[0], segments[1], super_frame(0), segments[2], segments[3], segments[4]};
  store16(&frames[2][34], 40001);
  std::vector<Bytes> memory;
  std::vector<Frame> group;
  for (const Bytes& f : frames) {
    Bytes& m = memory.emplace_back(192);
    m.insert(m.end(), f.begin(), f.end());
  }
  for (Bytes& m : memory) group.push_back({m.data() + 192, uint32_t(m.size() - 192), uint32_t(m.size() - 192), 192, {}, false});
  TestSink sink(true);
  engine.process(1, 1, group, sink);
  const std::vector<CollectedFrame>& out = sink.collector.frames();
  REQUIRE(out.size() == 3);
  CHECK(out[0].bytes.size() == 42 + 2 * (24 + 66 + 1300));
  CHECK(out[1].offload.gso() == Offload::kGsoNone);
  CHECK(out[2].bytes.size() == 42 + 3 * (24 + 66 + 1300));

  // Through both instances and back in frames of their own, in one group again.
  auto single = [&](const std::vector<CollectedFrame>& from) {
    std::vector<Bytes> copies;
    for (const CollectedFrame& f : from)
      for (const Bytes& one : f.offload.gso() ? cut({f}) : std::vector<Bytes>{f.bytes}) {
        CollectedFrame c{0, {}, one};
        store16(&c.bytes[40], 0);
        copies.push_back(turned(c).bytes);
      }
    return copies;
  };
  std::vector<Bytes> hop = single({out[0], out[2]});
  std::vector<CollectedFrame> delivered;
  for (int i = 0; i < 2; i++) {
    std::vector<Frame> back;
    for (Bytes& b : hop) back.push_back({b.data(), uint32_t(b.size()), uint32_t(b.size()), 0, {}, false});
    TestSink next(true);
    engine.process(1, 0, back, next);
    delivered = next.collector.frames();
    if (i == 0) hop = single(delivered);
  }
  REQUIRE(delivered.size() == 1);
  CHECK(delivered[0].offload.gso_size == 1300);
  CHECK(cut(delivered) == segments);
}
