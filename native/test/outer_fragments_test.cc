// Outer packets in fragments: cut, put together again in any order, and what hostile ones do.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "engine/outer_reassembly.h"
#include "stamped_frames.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr uint64_t kKey[2] = {1, 2};
using Outcome = OuterReassembly::Outcome;

Frame frame_of(Bytes& bytes) { return {bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false}; }

// A stamped frame from .11 to the forwarder with a packet of this length in it.
Bytes long_frame(bool ipv6, uint32_t length, uint8_t from = 11) {
  Bytes inner(14 + length);
  for (size_t i = 0; i < inner.size(); i++) inner[i] = uint8_t(i * 7 + (i >> 8));
  return stamped(ipv6, from, 1, 0x01020304, 255, inner);
}

std::vector<Bytes> cut(const Bytes& frame, uint32_t mtu, uint32_t id, size_t pieces = 1) {
  std::vector<Piece> list;
  const uint32_t first = pieces == 1 ? uint32_t(frame.size()) : 81;
  list.push_back({frame.data(), first});
  const uint32_t size = pieces > 1 ? uint32_t(frame.size() - first) / uint32_t(pieces - 1) : 0;
  for (size_t i = 1; i < pieces; i++) list.push_back({frame.data() + first + (i - 1) * size, i + 1 == pieces ? uint32_t(frame.size() - first - (i - 1) * size) : size});
  FrameCollector sink;
  const uint32_t n = cut_outer({0, {}, list}, mtu, id, sink);
  CHECK(n == sink.frames().size());
  std::vector<Bytes> out;
  for (CollectedFrame& f : sink.frames()) {
    CHECK(f.bytes.size() <= 14 + mtu);
    CHECK(f.offload.gso() == Offload::kGsoNone);
    out.push_back(std::move(f.bytes));
  }
  return out;
}

struct Collected {
  OuterReassembly reassembly;
  FrameCollector sink;
  OuterReassembly::Result add(Bytes& bytes, uint64_t now = 1) {
    const Frame frame = frame_of(bytes);
    const OuterFragment f = read_outer_fragment(frame);
    REQUIRE(f.kind == OuterFragment::Kind::fragment);
    return reassembly.add(f, frame, now, sink);
  }
};

Bytes bytes_of(const Frame& frame) { return {frame.bytes, frame.bytes + frame.length}; }

// IPv4's identification and flags are the fragments' own, and a checksum that was left out is there now.
void same_but_for_fragments(Bytes is, Bytes was) {
  if (load16(&was[12]) == kEtherIpv4) {
    for (Bytes* b : {&is, &was}) {
      store32(&(*b)[18], 0);
      store16(&(*b)[24], 0);
      store16(&(*b)[40], 0);
    }
  }
  CHECK(is == was);
}

// A fragment of what .`from` sends, whose bytes are all `fill`.
Bytes made_fragment(bool ipv6, uint32_t id, uint32_t offset, uint32_t length, bool more, uint8_t fill, uint8_t from = 11) {
  Bytes f = long_frame(ipv6, 100, from);
  f.resize(ipv6 ? 54 : 34);
  f.insert(f.end(), ipv6 ? 8 : 0, 0);
  f.insert(f.end(), length, fill);
  if (ipv6) {
    store16(&f[18], uint16_t(8 + length));
    f[20] = kIpFragment;
    f[54] = kIpUdp;
    store16(&f[56], uint16_t(offset | (more ? 1 : 0)));
    store32(&f[58], id);
  } else {
    store16(&f[16], uint16_t(20 + length));
    store16(&f[18], uint16_t(id));
    store16(&f[20], uint16_t((more ? Ipv4::kMoreFragments : 0) | offset / 8));
    Ipv4::finish(&f[14]);
  }
  return f;
}

}  // namespace

TEST_CASE("a stamped datagram is cut and put together again, in any order, over IPv4 and IPv6") {
  for (const bool ipv6 : {false, true}) {
    for (const uint32_t mtu : {576u, 1280u, 1499u, 1500u}) {
      for (const uint32_t length : {1500u, 1501u, 4000u, 9216u}) {
        const Bytes whole = long_frame(ipv6, length);
        const std::vector<Bytes> fragments = cut(whole, mtu, 77, 1 + length % 3);
        REQUIRE(fragments.size() == (whole.size() - (ipv6 ? 54 : 34) + (mtu - (ipv6 ? 48 : 20)) / 8 * 8 - 1) / ((mtu - (ipv6 ? 48 : 20)) / 8 * 8));
        for (int order = 0; order < 3; order++) {
          std::vector<size_t> at(fragments.size());
          std::iota(at.begin(), at.end(), 0);
          if (order == 1) std::reverse(at.begin(), at.end());
          if (order == 2) std::rotate(at.begin(), at.begin() + at.size() / 2, at.end());
          Collected c;
          for (size_t i = 0; i < at.size(); i++) {
            Bytes f = fragments[at[i]];
            const auto result = c.add(f);
            if (i + 1 < at.size()) {
              CHECK(result.outcome == Outcome::kept);
              CHECK(c.reassembly.waiting() == 1);
              continue;
            }
            REQUIRE(result.outcome == Outcome::whole);
            CHECK(c.reassembly.waiting() == 0);
            CHECK(result.frame.headroom == OuterReassembly::kHeadroom);
            CHECK(result.longest <= mtu);
            CHECK(result.longest + 8 > mtu);
            Bytes again = bytes_of(result.frame);
            outer_of(again);  // with its checksum
            CHECK(load16(&again[again.size() - (14 + length) - 32 + 6]) != 0);
            same_but_for_fragments(again, whole);
          }
        }
      }
    }
  }
}

TEST_CASE("fragments of datagrams of one sender do not mix, nor those of two senders with one identification") {
  for (const bool ipv6 : {false, true}) {
    Collected c;
    std::vector<Bytes> all, wholes;
    for (uint32_t i = 0; i < 8; i++) {
      wholes.push_back(long_frame(ipv6, 3000 + i, uint8_t(11 + i / 4)));
      const std::vector<Bytes> fragments = cut(wholes.back(), 1500, 500 + i % 4);
      REQUIRE(fragments.size() == 3);
      all.insert(all.end(), fragments.begin(), fragments.end());
    }
    size_t done = 0;
    for (size_t part = 0; part < 3; part++)
      for (size_t i = 0; i < 8; i++) {
        const auto result = c.add(all[3 * i + part]);
        CHECK(result.outcome == (part == 2 ? Outcome::whole : Outcome::kept));
        if (part == 2) same_but_for_fragments(bytes_of(result.frame), wholes[i]), done++;
      }
    CHECK(done == 8);
  }
}

TEST_CASE("exact duplicates are left out; the datagram becomes whole all the same") {
  for (const bool ipv6 : {false, true}) {
    const Bytes whole = long_frame(ipv6, 4000);
    std::vector<Bytes> fragments = cut(whole, 1500, 9);
    Collected c;
    CHECK(c.add(fragments[2]).outcome == Outcome::kept);
    CHECK(c.add(fragments[2]).outcome == Outcome::left_out);
    CHECK(c.add(fragments[0]).outcome == Outcome::kept);
    CHECK(c.add(fragments[0]).outcome == Outcome::left_out);
    const auto result = c.add(fragments[1]);
    REQUIRE(result.outcome == Outcome::whole);
    same_but_for_fragments(bytes_of(result.frame), whole);
  }
}

TEST_CASE("one that overlaps gives the datagram up, and all of it that is still to come") {
  for (const bool ipv6 : {false, true}) {
    struct Case {
      uint32_t offset, length;
      bool more;
    };
    // After 800 to 1599 and 2400 to 2999, which is the end.
    for (const Case& bad : {Case{800, 800, true}, {792, 16, true}, {1592, 16, true}, {0, 3000, true}, {1608, 1000, true}, {3000, 8, true}, {1600, 100, false}, {2400, 608, false}, {2400, 600, false}}) {
      Collected c;
      Bytes first = made_fragment(ipv6, 5, 800, 800, true, 'a'), last = made_fragment(ipv6, 5, 2400, 600, false, 'a');
      CHECK(c.add(first).outcome == Outcome::kept);
      CHECK(c.add(last).outcome == Outcome::kept);
      Bytes other = made_fragment(ipv6, 5, bad.offset, bad.length, bad.more, 'b');
      const auto result = c.add(other);
      CHECK(result.outcome == Outcome::overlap);
      CHECK(result.lost.datagrams == 1);
      CHECK(result.lost.bytes == 800 + 600 + bad.length + 3 * (ipv6 ? 48 : 20));
      for (const uint32_t offset : {0u, 1600u}) {
        Bytes late = made_fragment(ipv6, 5, offset, 800, true, 'a');
        CHECK(c.add(late).outcome == Outcome::left_out);
      }
      // It was counted once; and then its identification is free again.
      CHECK(c.reassembly.expire(1 + OuterReassembly::kTimeoutNs).datagrams == 0);
      CHECK(c.reassembly.waiting() == 0);
      CHECK(c.add(first, 2 + OuterReassembly::kTimeoutNs).outcome == Outcome::kept);
    }
  }
}

TEST_CASE("an end before what is there already, and two different ends") {
  Collected c;
  Bytes far = made_fragment(false, 1, 1600, 800, true, 'a'), end = made_fragment(false, 1, 800, 100, false, 'a');
  CHECK(c.add(far).outcome == Outcome::kept);
  CHECK(c.add(end).outcome == Outcome::overlap);
  Bytes one = made_fragment(false, 2, 800, 100, false, 'a'), two = made_fragment(false, 2, 1600, 100, false, 'a');
  CHECK(c.add(one).outcome == Outcome::kept);
  CHECK(c.add(two).outcome == Outcome::overlap);
}

TEST_CASE("what is not whole within a second is given up, and nothing before that") {
  Collected c;
  Bytes early = made_fragment(false, 1, 0, 800, true, 'a'), late = made_fragment(true, 2, 0, 400, true, 'a');
  CHECK(c.reassembly.expire(~uint64_t(0) - 1).datagrams == 0);
  c.add(early, 1000);
  c.add(late, 600'000'000);
  CHECK(c.reassembly.expire(999 + OuterReassembly::kTimeoutNs).datagrams == 0);
  auto lost = c.reassembly.expire(1000 + OuterReassembly::kTimeoutNs);
  CHECK(lost.datagrams == 1);
  CHECK(lost.bytes == 820);
  CHECK(c.reassembly.waiting() == 1);
  lost = c.reassembly.expire(600'000'000 + OuterReassembly::kTimeoutNs);
  CHECK(lost.datagrams == 1);
  CHECK(lost.bytes == 448);
  CHECK(c.reassembly.waiting() == 0);
}

TEST_CASE("a sender that fills its places pushes out its own oldest, and nobody else's") {
  Collected c;
  std::vector<Bytes> honest = cut(long_frame(false, 3000, 12), 1500, 1);
  CHECK(c.add(honest[0]).outcome == Outcome::kept);
  uint32_t pushed_out = 0;
  for (uint32_t id = 0; id < 10'000; id++) {
    Bytes flood = made_fragment(false, id, 0, 8, true, 'x');
    const auto result = c.add(flood, 2 + id);
    CHECK(result.outcome == Outcome::kept);
    pushed_out += result.pushed_out.datagrams;
  }
  CHECK(pushed_out == 10'000 - OuterReassembly::kWays);
  CHECK(c.reassembly.waiting() == OuterReassembly::kWays + 1);
  // The newest are there, the oldest are not.
  Bytes newest = made_fragment(false, 9'999, 8, 8, false, 'x');
  CHECK(c.add(newest, 20'000).outcome == Outcome::whole);
  CHECK(c.add(honest[1], 20'000).outcome == Outcome::kept);
  CHECK(c.add(honest[2], 20'000).outcome == Outcome::whole);
}

TEST_CASE("hostile lengths") {
  // Too long for anybody: counted each, and nothing is kept.
  Collected c;
  for (const uint32_t offset : {9600u, 65000u}) {
    Bytes f = made_fragment(false, 1, offset, 16, true, 'a');
    CHECK(c.add(f).outcome == Outcome::too_long);
  }
  CHECK(c.reassembly.waiting() == 0);

  auto kind = [](Bytes f, uint32_t cut_by = 0) {
    // Memory of exactly its length, so that a sanitizer sees a read past its end.
    std::unique_ptr<uint8_t[]> copy(new uint8_t[f.size()]);
    std::copy(f.begin(), f.end(), copy.get());
    return read_outer_fragment({copy.get(), uint32_t(f.size()), uint32_t(f.size()) + cut_by, 0, {}, false}).kind;
  };
  for (const bool ipv6 : {false, true}) {
    const Bytes good = made_fragment(ipv6, 1, 800, 80, true, 'a');
    CHECK(kind(good) == OuterFragment::Kind::fragment);
    CHECK(kind(good, 1) == OuterFragment::Kind::malformed);
    CHECK(kind(made_fragment(ipv6, 1, 800, 81, true, 'a')) == OuterFragment::Kind::malformed);   // ends within a unit
    CHECK(kind(made_fragment(ipv6, 1, 800, 0, true, 'a')) == OuterFragment::Kind::malformed);
    CHECK(kind(made_fragment(ipv6, 1, 65528, 80, false, 'a')) == OuterFragment::Kind::malformed);  // past the longest datagram
    Bytes lying = good;
    store16(&lying[ipv6 ? 18 : 16], 2000);
    CHECK(kind(lying) == OuterFragment::Kind::malformed);
    for (size_t n = 0; n < good.size(); n++) CHECK(kind(Bytes(good.begin(), good.begin() + long(n))) != OuterFragment::Kind::fragment);
    CHECK(kind(long_frame(ipv6, 100)) == OuterFragment::Kind::none);  // no fragment
    Bytes tcp = good;
    tcp[ipv6 ? 54 : 23] = kIpTcp;
    CHECK(kind(tcp) == OuterFragment::Kind::none);
  }
  Bytes options = made_fragment(false, 1, 0, 80, true, 'a');
  options[14] = 0x46;
  CHECK(kind(options) == OuterFragment::Kind::malformed);
}

TEST_CASE("what is no single UDP datagram is not cut, nor for an MTU that has no room") {
  FrameCollector sink;
  Bytes whole = long_frame(false, 3000);
  const Piece piece{whole.data(), uint32_t(whole.size())};
  CHECK(cut_outer({0, {}, {&piece, 1}}, 27, 1, sink) == 0);
  CHECK(cut_outer({0, batch_offload(34, 1000), {&piece, 1}}, 1500, 1, sink) == 0);
  CHECK(cut_outer({0, {}, {}}, 1500, 1, sink) == 0);
  const Piece headers{whole.data(), 20};
  CHECK(cut_outer({0, {}, {&headers, 1}}, 1500, 1, sink) == 0);
  whole[23] = kIpTcp;
  CHECK(cut_outer({0, {}, {&piece, 1}}, 1500, 1, sink) == 0);
  CHECK(sink.frames().empty());
}

TEST_CASE("a checksum that was left to the device is made before cutting") {
  for (const bool ipv6 : {false, true}) {
    Bytes whole = long_frame(ipv6, 3001);
    const uint32_t udp = ipv6 ? 54 : 34, length = uint32_t(whole.size()) - udp;
    checksum_store(&whole[udp + 6], checksum_fold(checksum_pseudo(&whole[ipv6 ? 22 : 26], ipv6 ? 32 : 8, kIpUdp, length)));
    Offload partial;
    partial.flags = Offload::kNeedsChecksum;
    partial.checksum_start = uint16_t(udp);
    partial.checksum_offset = 6;
    FrameCollector sink;
    const Piece pieces[3] = {{whole.data(), 101}, {whole.data() + 101, 1000}, {whole.data() + 1101, uint32_t(whole.size()) - 1101}};
    REQUIRE(cut_outer({0, partial, pieces}, 1500, 1, sink) == 3);
    Collected c;
    for (CollectedFrame& f : sink.frames()) {
      const auto result = c.add(f.bytes);
      if (result.outcome != Outcome::whole) continue;
      Bytes again = bytes_of(result.frame);
      CHECK(load16(&again[udp + 6]) != 0);
      outer_of(again);
    }
  }
}

TEST_CASE("identifications: one after another for a destination, from a place of its own on") {
  FragmentIds ids;
  const uint32_t a = ids.next(kKey, at(false, 11)), b = ids.next(kKey, at(false, 12)), c = ids.next(kKey, at(true, 11));
  CHECK(ids.next(kKey, at(false, 11)) == a + 1);
  CHECK(ids.next(kKey, at(false, 11)) == a + 2);
  CHECK(a != b);
  CHECK(a != c);
  constexpr uint64_t kOther[2] = {3, 4};
  CHECK(FragmentIds().next(kOther, at(false, 11)) != FragmentIds().next(kKey, at(false, 11)));
}
