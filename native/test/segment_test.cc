// Offloads: super-frames cut, checksums completed, long packets fragmented or answered.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/packet.h"
#include "frames.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

// An IPv4 TCP or UDP frame with `payload` bytes counting up, checksum partial as offloading leaves it.
Bytes local_frame(uint8_t protocol, uint32_t payload, bool dont_fragment = true) {
  const uint32_t header = protocol == kIpTcp ? 20 : 8;
  Bytes f(14 + 20 + header + payload);
  const Bytes macs = hex("0200000000bb0200000000aa0800");
  std::copy(macs.begin(), macs.end(), f.begin());
  uint8_t* ip4 = f.data() + 14;
  ip4[0] = 0x45;
  store16(ip4 + 2, uint16_t(f.size() - 14));
  store16(ip4 + 4, 1000);
  store16(ip4 + 6, dont_fragment ? 0x4000 : 0);
  ip4[8] = 64;
  ip4[9] = protocol;
  const Bytes addresses = hex("0a0100020a020002");
  std::copy(addresses.begin(), addresses.end(), ip4 + 12);
  Ipv4::finish(ip4);
  uint8_t* t = ip4 + 20;
  store16(t, 40000);
  store16(t + 2, 80);
  for (uint32_t i = 0; i < payload; i++) t[header + i] = uint8_t(i * 7 + i / 256);
  const uint16_t partial = checksum_fold(checksum_pseudo(ip4 + 12, 8, protocol, header + payload));
  if (protocol == kIpTcp) {
    store32(t + 4, 5000);
    t[12] = 0x50;
    t[13] = Tcp::kAck | Tcp::kPsh | Tcp::kFin | Tcp::kCwr;
    checksum_store(t + 16, partial);
  } else {
    store16(t + 4, uint16_t(8 + payload));
    checksum_store(t + 6, partial);
  }
  return f;
}

Offload partial(uint8_t protocol, uint8_t gso = 0, uint16_t size = 0) {
  return {Offload::kNeedsChecksum, gso, uint16_t(protocol == kIpTcp ? 54 : 42), size, 34, uint16_t(protocol == kIpTcp ? 16 : 6)};
}

// The inner Ethernet frame of an nsh frame.
Bytes inner(const CollectedFrame& f) { return Bytes(f.bytes.begin() + 42 + 24, f.bytes.end()); }

bool transport_checksum_ok(const Bytes& f) {
  const uint8_t* ip4 = f.data() + 14;
  const uint32_t length = Ipv4::total_length(ip4) - 20u;
  return checksum_fold(checksum_add(ip4 + 20, length, checksum_pseudo(ip4 + 12, 8, ip4[9], length))) == 0xffff;
}
bool ip_checksum_ok(const Bytes& f) { return checksum_fold(checksum_add(f.data() + 14, 20, 0)) == 0xffff; }

}  // namespace

TEST_CASE("a TCP super-frame becomes right segments of its own size") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const Bytes whole = local_frame(kIpTcp, 10'000);
  const auto out = process(engine, 1, whole, partial(kIpTcp, Offload::kGsoTcp4, 1000));
  REQUIRE(out.size() == 10);
  Bytes joined;
  for (size_t i = 0; i < out.size(); i++) {
    const Bytes f = inner(out[i]);
    CHECK(ip_checksum_ok(f));
    CHECK(transport_checksum_ok(f));
    CHECK(load32(&f[14 + 20 + 4]) == 5000 + i * 1000);
    CHECK(load16(&f[14 + 4]) == 1000 + i);
    const uint8_t flags = f[14 + 20 + 13];
    CHECK(bool(flags & Tcp::kFin) == (i == 9));
    CHECK(bool(flags & Tcp::kPsh) == (i == 9));
    CHECK(bool(flags & Tcp::kCwr) == (i == 0));
    joined.insert(joined.end(), f.begin() + 54, f.end());
  }
  CHECK(joined == Bytes(whole.begin() + 54, whole.end()));
  CHECK(engine.counters().streams_opened.get() == 1);
}

TEST_CASE("segments that the underlay can't carry are cut smaller, super-frame or not") {
  for (const uint16_t size : {uint16_t(1460), uint16_t(0)}) {
    Engine engine({1000});
    engine.install(program(Encapsulation::nsh));
    const Bytes whole = local_frame(kIpTcp, size ? 8000 : 1460);
    const auto out = process(engine, 1, whole, partial(kIpTcp, size ? Offload::kGsoTcp4 : 0, size));
    Bytes joined;
    for (const auto& o : out) {
      CHECK(o.bytes.size() <= 1514);
      const Bytes f = inner(o);
      CHECK(transport_checksum_ok(f));
      joined.insert(joined.end(), f.begin() + 54, f.end());
    }
    CHECK(joined == Bytes(whole.begin() + 54, whole.end()));
  }
}

TEST_CASE("UDP super-frames become datagrams; a partial checksum alone is completed") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const auto out = process(engine, 1, local_frame(kIpUdp, 3500), partial(kIpUdp, Offload::kGsoUdp, 1200));
  REQUIRE(out.size() == 3);
  for (const auto& o : out) CHECK(transport_checksum_ok(inner(o)));
  CHECK(inner(out[2]).size() == 42 + 1100);
  const auto one = process(engine, 1, local_frame(kIpUdp, 100), partial(kIpUdp));
  REQUIRE(one.size() == 1);
  CHECK(transport_checksum_ok(inner(one[0])));
}

TEST_CASE("libpcap's frames: super-frames and partial checksums are found out") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const auto out = process(engine, 1, local_frame(kIpTcp, 5000), {}, 1, true);
  REQUIRE(out.size() == 4);
  for (const auto& o : out) CHECK(transport_checksum_ok(inner(o)));
  const auto small = process(engine, 1, local_frame(kIpUdp, 51), {}, 1, true);
  REQUIRE(small.size() == 1);
  CHECK(transport_checksum_ok(inner(small[0])));
  Bytes wrong = local_frame(kIpUdp, 51);
  wrong[14 + 20 + 6] ^= 0x55;
  CHECK(inner(process(engine, 1, wrong, {}, 1, true).at(0)) == wrong);  // a corrupt packet stays corrupt
}

TEST_CASE("IPv4 that does not fit is fragmented where it may be, else the sender is told") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const Bytes may = local_frame(kIpUdp, 1470, false);
  const auto fragments = process(engine, 1, may, partial(kIpUdp));
  REQUIRE(fragments.size() == 2);
  Bytes data;
  for (const auto& o : fragments) {
    const Bytes f = inner(o);
    CHECK(ip_checksum_ok(f));
    CHECK((Ipv4::fragment_field(&f[14]) & Ipv4::kOffsetMask) * 8u == data.size());
    data.insert(data.end(), f.begin() + 34, f.end());
  }
  CHECK(data.size() == 1478);
  CHECK((Ipv4::fragment_field(&inner(fragments[0])[14]) & Ipv4::kMoreFragments) != 0);
  CHECK((Ipv4::fragment_field(&inner(fragments[1])[14]) & Ipv4::kMoreFragments) == 0);

  const auto told = process(engine, 1, local_frame(kIpUdp, 1470), partial(kIpUdp), 1'000'000'000'000);
  REQUIRE(told.size() == 1);
  CHECK(told[0].port == 1);
  const Bytes& icmp = told[0].bytes;
  CHECK(icmp[14 + 9] == kIpIcmp);
  CHECK(icmp[34] == 3);
  CHECK(icmp[35] == 4);
  CHECK(load16(&icmp[40]) == 1500 - 66);
  CHECK(ip_checksum_ok(icmp));
  CHECK(checksum_fold(checksum_add(&icmp[34], uint32_t(icmp.size() - 34), 0)) == 0xffff);
  CHECK(dropped(engine, DropReason::too_big) == 1);
}

TEST_CASE("later fragments follow the first one's stream, also those that came before it") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const Bytes whole = local_frame(kIpUdp, 1200, false);
  auto fragment = [&](uint16_t at, uint16_t n, bool more) {
    Bytes f(whole.begin(), whole.begin() + 34);
    f.insert(f.end(), whole.begin() + 34 + at, whole.begin() + 34 + at + n);
    store16(&f[16], uint16_t(20 + n));
    store16(&f[20], uint16_t((more ? 0x2000 : 0) | at / 8));
    Ipv4::finish(&f[14]);
    return f;
  };
  const Bytes first = fragment(0, 400, true), second = fragment(400, 400, true), third = fragment(800, 408, false);
  CHECK(process(engine, 1, third).empty());
  CHECK(process(engine, 1, second).empty());
  const auto out = process(engine, 1, first);
  REQUIRE(out.size() == 3);
  CHECK(inner(out[0]) == first);
  CHECK(inner(out[1]) == third);
  CHECK(inner(out[2]) == second);
  for (const auto& o : out) CHECK(load32(&o.bytes[62]) == load32(&out[0].bytes[62]));  // one code
  CHECK(inner(process(engine, 1, second).at(0)) == second);
  CHECK(engine.flows().size() == 1);

  Engine alone({1000});
  alone.install(program(Encapsulation::nsh));
  CHECK(process(alone, 1, second).empty());
  alone.tick(5'000'000'000);
  CHECK(dropped(alone, DropReason::fragment_orphan) == 1);
}

TEST_CASE("an ICMP error follows the stream that it quotes") {
  Engine engine({1000});
  engine.install(program(Encapsulation::nsh));
  const Bytes udp = local_frame(kIpUdp, 10);
  const uint32_t code = load32(&process(engine, 1, udp, partial(kIpUdp)).at(0).bytes[62]);
  Bytes error = hex("0200000000aa0200000000bb08004500003800000000400100000a0200010a01000203030000000005aa");
  error.resize(14 + 20 + 8);
  error.insert(error.end(), udp.begin() + 14, udp.begin() + 14 + 28);
  store16(&error[16], uint16_t(error.size() - 14));
  Ipv4::finish(&error[14]);
  const auto out = process(engine, 2, error);
  REQUIRE(out.size() == 1);
  CHECK(load32(&out[0].bytes[62]) == code);
  CHECK(load24(&out[0].bytes[54]) == 3);  // as an answer
  CHECK(engine.flows().size() == 1);
}
