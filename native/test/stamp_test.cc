// The wire formats against packets that others made.
#include <doctest/doctest.h>

#include <algorithm>

#include "engine/stamp.h"
#include "frames.h"

using namespace weir;
using namespace weir::test;

namespace {

const Bytes kInner = hex("0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972");
const Bytes kNsh = hex(
    "02000000000b02000000000108004500006200004000401126580a1400010a14000bf55112b6004e00000c0000040000"
    "00000fc40203000005ff00000804f17375510200000000bb0200000000aa08004500002000010000401160ba0a010002"
    "08080808cf84270f000c0e5877656972");
const Bytes kGeneve = hex(
    "02000000000b02000000000108004500006400004000401126560a1400010a14000bf55117c100500000080008000000"
    "000001080102000000000000000101080202000000000005ff0001080301f17375514500002000010000401160ba0a01"
    "000208080808cf84270f000c0e5877656972");

Bytes stamped(Encapsulation encapsulation, uint32_t tenant) {
  const Address from = ip(10, 20, 0, 1), to = ip(10, 20, 0, 11);
  const Mac source{{2, 0, 0, 0, 0, 1}}, destination{{2, 0, 0, 0, 0, 0x0b}};
  const Tunnel tunnel{&from, &to, &source, &destination, 0xf1737551, encapsulation};
  Bytes stamp(stamp_length(encapsulation));
  write_stamp(stamp.data(), encapsulation, {.vni = tenant, .spi = 5, .si = 255, .code = 0xf1737551}, 4);
  Bytes inner(encapsulation == Encapsulation::nsh ? kInner.begin() : kInner.begin() + 14, kInner.end());
  const Piece pieces[2] = {{stamp.data(), uint32_t(stamp.size())}, {inner.data(), uint32_t(inner.size())}};
  Bytes out(tunnel.outer_length());
  write_outer(out.data(), tunnel, pieces);
  out.insert(out.end(), stamp.begin(), stamp.end());
  out.insert(out.end(), inner.begin(), inner.end());
  return out;
}

}  // namespace

TEST_CASE("nsh is written as the published packet") { CHECK(stamped(Encapsulation::nsh, 0) == kNsh); }
TEST_CASE("geneve is written as the published packet") { CHECK(stamped(Encapsulation::geneve, 1) == kGeneve); }

TEST_CASE("what is written is read back, by both") {
  const auto nsh = read_nsh(kNsh.data() + 42, uint32_t(kNsh.size() - 42));
  REQUIRE(nsh);
  CHECK(nsh->spi == 5);
  CHECK(nsh->si == 255);
  CHECK(nsh->ttl == 63);
  CHECK(nsh->code == 0xf1737551);
  CHECK(nsh->length == 24);
  const auto geneve = read_geneve(kGeneve.data() + 42, uint32_t(kGeneve.size() - 42));
  REQUIRE(geneve);
  CHECK(geneve->endpoint == 1);
  CHECK(geneve->attachment == 0x0005ff00);
  CHECK(geneve->cookie == 0xf1737551);
}

TEST_CASE("NSH with other context headers before ours, and MD type 1, are read; without a code it is not ours") {
  Bytes two = hex("0c00000400000000" "0fc60203000005ff" "01234503aabbcc00" "00000804deadbeef");
  const auto second = read_nsh(two.data(), uint32_t(two.size()));
  REQUIRE(second);
  CHECK(second->code == 0xdeadbeef);
  CHECK(second->length == 32);
  const Bytes one = hex("0c00000400000000" "0fc60103000005ff" "cafebabe000000000000000000000000");
  const auto md1 = read_nsh(one.data(), uint32_t(one.size()));
  REQUIRE(md1);
  CHECK(md1->code == 0xcafebabe);
  const Bytes none = hex("0c00000400000000" "0fc20203000005ff");
  CHECK_FALSE(read_nsh(none.data(), uint32_t(none.size())));
}

TEST_CASE("no prefix of a stamp is read past its end") {
  for (const Bytes& whole : {kNsh, kGeneve}) {
    for (size_t n = 0; n < whole.size() - 42; n++) {
      std::unique_ptr<uint8_t[]> exact(new uint8_t[n]);
      std::copy_n(whole.begin() + 42, n, exact.get());
      read_nsh(exact.get(), uint32_t(n));
      read_geneve(exact.get(), uint32_t(n));
    }
  }
}

TEST_CASE("Geneve without one of the three options is refused") {
  Bytes bytes(kGeneve.begin() + 42, kGeneve.end());
  for (const size_t type_at : {10u, 22u, 34u}) {
    Bytes changed = bytes;
    changed[type_at] = 9;
    CHECK_FALSE(read_geneve(changed.data(), uint32_t(changed.size())));
  }
}
