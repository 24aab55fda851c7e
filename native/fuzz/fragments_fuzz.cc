// Target: outer fragments. An input is steps: fragments of a few datagrams of a few senders, bytes that are to be one, time, datagrams that
// are cut and come back in another order. What is kept, left out, given up and whole is what a plain model of RFC 791 and RFC 8200 with
// RFC 5722 says, byte for byte.
#include <cstring>
#include <map>
#include <vector>

#include "engine/frame_collector.h"
#include "engine/outer_reassembly.h"
#include "fuzz_input.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

using Outcome = OuterReassembly::Outcome;
using Key = std::vector<uint8_t>;  // sender, identification

struct Datagram {
  uint64_t since_ns = 0;
  bool given_up = false;
  std::vector<int> bytes = std::vector<int>(OuterReassembly::kLongest, -1);
  uint32_t total = 0, received = 0;
  uint64_t came = 0;
};

class World {
 public:
  explicit World(Input& input) : input_(input) {}

  void step() {
    const uint8_t op = input_.u8();
    switch (op & 3) {
      case 0: return raw();
      case 1: return pass_time(uint64_t(input_.u16()) << 15);
      case 2: return round_trip(op >> 2);
      default: return fragment(op >> 2);
    }
  }

 private:
  static std::vector<uint8_t> headers(bool ipv6, uint8_t sender) {
    std::vector<uint8_t> f(ipv6 ? 54 : 34);
    store16(&f[12], ipv6 ? kEtherIpv6 : kEtherIpv4);
    f[14] = ipv6 ? 0x60 : 0x45;
    f[ipv6 ? 20 : 23] = kIpUdp;
    f[ipv6 ? 37 : 29] = sender;
    f[ipv6 ? 53 : 33] = 1;
    return f;
  }

  // Bits of `how`: 0 IPv6, 1 and 2 the sender, 3 and 4 the identification, 5 others follow.
  void fragment(uint8_t how) {
    const bool ipv6 = how & 1, more = how & 32;
    const uint8_t sender = how >> 1 & 3, id = how >> 3 & 3, fill = input_.u8();
    const uint32_t offset = uint32_t(input_.u8()) * 40;
    const uint16_t given = input_.u16();
    const uint32_t length = more ? (given & 0x1ff) * 8 : given & 0xfff;
    std::vector<uint8_t> f = headers(ipv6, sender);
    if (ipv6) {
      f[20] = kIpFragment;
      f.resize(62);
      f[54] = kIpUdp;
      store16(&f[18], uint16_t(8 + length));
      store16(&f[56], uint16_t(offset | (more ? 1 : 0)));
      store32(&f[58], id);
    } else {
      store16(&f[16], uint16_t(20 + length));
      store16(&f[18], id);
      store16(&f[20], uint16_t((more ? Ipv4::kMoreFragments : 0) | offset / 8));
    }
    f.resize(f.size() + length, fill);
    ExactFrame copy(f, 0);
    const OuterFragment read = read_outer_fragment(copy.frame);
    if (!ipv6 && !more && offset == 0) {
      CLAIM(read.kind == OuterFragment::Kind::none);
      return;
    }
    CLAIM((read.kind == OuterFragment::Kind::fragment) == (length > 0));
    if (length == 0) return;
    CLAIM(read.offset == offset && read.length == length && read.more == more && read.id == id);
    check({uint8_t(ipv6), sender, id}, read, copy.frame, fill);
  }

  void check(const Key& key, const OuterFragment& f, const Frame& frame, uint8_t fill) {
    const OuterReassembly::Result result = reassembly_.add(f, frame, now_, sink_);
    CLAIM(result.pushed_out.datagrams == 0);  // there are fewer than places
    const uint32_t end = f.offset + f.length;
    if (end > OuterReassembly::kLongest) {
      CLAIM(result.outcome == Outcome::too_long && result.lost.datagrams == 1);
      return;
    }
    const auto [at, fresh] = datagrams_.try_emplace(key);
    Datagram& d = at->second;
    if (fresh) d.since_ns = now_;
    if (d.given_up) {
      CLAIM(result.outcome == Outcome::left_out);
      return;
    }
    bool any = false, all = true, same = true, behind = false;
    for (uint32_t i = f.offset; i < end; i++) {
      any |= d.bytes[i] >= 0;
      all &= d.bytes[i] >= 0;
      same &= d.bytes[i] == fill;
    }
    for (uint32_t i = end; i < OuterReassembly::kLongest; i++) behind |= d.bytes[i] >= 0;
    const bool ends_wrong = d.total ? end > d.total || (!f.more && end != d.total) : !f.more && behind;
    if (!ends_wrong && any && all && same && (f.more || d.total)) {
      CLAIM(result.outcome == Outcome::left_out);
      return;
    }
    d.came += f.ip_length;
    if (ends_wrong || any) {
      CLAIM(result.outcome == Outcome::overlap);
      CLAIM(result.lost.datagrams == 1 && result.lost.bytes == d.came);
      d.given_up = true;
      return;
    }
    for (uint32_t i = f.offset; i < end; i++) d.bytes[i] = fill;
    d.received += f.length;
    if (!f.more) d.total = end;
    if (!d.total || d.received != d.total) {
      CLAIM(result.outcome == Outcome::kept);
      return;
    }
    CLAIM(result.outcome == Outcome::whole);
    const uint32_t at_payload = f.destination.is_ipv4() ? 34 : 54;
    CLAIM(result.frame.length == at_payload + d.total);
    for (uint32_t i = 0; i < d.total; i++) CLAIM(result.frame.bytes[at_payload + i] == d.bytes[i]);
    CLAIM(read_outer_fragment(result.frame).kind == OuterFragment::Kind::none);
    datagrams_.erase(at);
    sink_.clear();
  }

  void raw() {
    const auto bytes = input_.bytes(input_.u16() & 0x7ff);
    const ExactFrame copy(bytes, 0);
    const OuterFragment f = read_outer_fragment(copy.frame);
    if (f.kind != OuterFragment::Kind::fragment) return;
    CLAIM(f.length > 0 && f.payload + f.length <= copy.frame.length);
    CLAIM(!f.more || f.length % 8 == 0);
    CLAIM(f.offset % 8 == 0 && f.offset + f.length <= 65535);
    OuterReassembly alone;
    const auto result = alone.add(f, copy.frame, now_, sink_);
    CLAIM(result.outcome == Outcome::kept || result.outcome == Outcome::too_long || (result.outcome == Outcome::whole && f.offset == 0 && !f.more));
    CLAIM(alone.waiting() == (result.outcome == Outcome::kept ? 1 : 0));
    sink_.clear();
  }

  void pass_time(uint64_t ns) {
    now_ += ns;
    const OuterReassembly::Lost lost = reassembly_.expire(now_);
    OuterReassembly::Lost expected;
    for (auto d = datagrams_.begin(); d != datagrams_.end();) {
      if (now_ - d->second.since_ns < OuterReassembly::kTimeoutNs) {
        ++d;
        continue;
      }
      if (!d->second.given_up) expected = {expected.datagrams + 1, expected.bytes + d->second.came};
      d = datagrams_.erase(d);
    }
    CLAIM(lost.datagrams == expected.datagrams && lost.bytes == expected.bytes);
    CLAIM(reassembly_.waiting() == datagrams_.size());
  }

  // Bit 0 of `how`: IPv6; the others: where the order of the fragments begins.
  void round_trip(uint8_t how) {
    const bool ipv6 = how & 1;
    const uint32_t mtu = 68 + (input_.u16() & 0x7ff), length = kUdpHeader + (input_.u16() & 0x1fff);
    std::vector<uint8_t> f = headers(ipv6, 200);
    for (uint32_t i = 0; i < length; i++) f.push_back(uint8_t(i * 31 + how));
    const uint32_t udp = uint32_t(f.size()) - length, first = udp + kUdpHeader + (length - kUdpHeader) / 3;
    store16(&f[ipv6 ? 18 : 16], uint16_t(ipv6 ? length : 20 + length));
    store16(&f[udp + 4], uint16_t(length));
    store16(&f[udp + 6], 0);
    const Piece pieces[2] = {{f.data(), first}, {f.data() + first, uint32_t(f.size()) - first}};
    FrameCollector cut;
    const uint32_t n = cut_outer({0, {}, pieces}, mtu, 99, cut);
    CLAIM(n > 0 && n == cut.frames().size());
    OuterReassembly alone;
    FrameCollector sink;
    for (uint32_t i = 0; i < n; i++) {
      CollectedFrame& one = cut.frames()[(i + how / 2) % n];
      CLAIM(one.bytes.size() <= kEthernetHeader + mtu);
      const ExactFrame copy(one.bytes, 0);
      const OuterFragment read = read_outer_fragment(copy.frame);
      if (n == 1 && !ipv6) {
        CLAIM(read.kind == OuterFragment::Kind::none);
        return;
      }
      CLAIM(read.kind == OuterFragment::Kind::fragment);
      const auto result = alone.add(read, copy.frame, now_, sink);
      CLAIM(result.outcome == (i + 1 == n ? Outcome::whole : Outcome::kept));
      if (i + 1 < n) continue;
      CLAIM(result.longest <= mtu);
      CLAIM(result.frame.length == f.size());
      CLAIM(std::memcmp(result.frame.bytes + udp + kUdpHeader, f.data() + udp + kUdpHeader, length - kUdpHeader) == 0);
      const uint8_t* addresses = result.frame.bytes + (ipv6 ? 22 : 26);
      CLAIM(checksum_fold(checksum_add(result.frame.bytes + udp, length, checksum_pseudo(addresses, ipv6 ? 32 : 8, kIpUdp, length))) == 0xffff);
    }
  }

  Input& input_;
  OuterReassembly reassembly_;
  FrameCollector sink_;
  std::map<Key, Datagram> datagrams_;
  uint64_t now_ = 1'000'000'000;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  World world(input);
  for (uint32_t steps = 0; steps < 200 && !input.empty(); steps++) world.step();
  return 0;
}
