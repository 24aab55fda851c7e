// Packets that leave a mesh chain straight from the last instance's host: which do, that they are as they came, and what is counted.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "mesh_nodes.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr int kArrivalMs = 20'000;

// A network of its own that is only a loopback, with 10.0.0.0/8 and fd09::1: what is opened in it stays there.
class OwnNetwork {
 public:
  OwnNetwork() {
    std::thread([this] {
      if (unshare(CLONE_NEWNET)) {
        problem = std::string("a network namespace can't be made: ") + std::strerror(errno) + "; native tests are run by root";
        return;
      }
      network_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
      seen_ = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
      // What arrives has to be here until the test looks: twice the default is not enough for a batch.
      const int room = 8 << 20, on = 1;
      const bool keeps = setsockopt(seen_, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) == 0 && setsockopt(seen_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0;
      v4_ = socket(AF_INET, SOCK_DGRAM, 0);
      ifreq up = request("lo"), own = request("lo:1");
      up.ifr_flags = IFF_UP;
      auto* address = reinterpret_cast<sockaddr_in*>(&own.ifr_addr);
      address->sin_family = AF_INET;
      std::memcpy(&address->sin_addr, ip(10, 9, 0, 1).ipv4(), 4);
      struct {  // struct in6_ifreq
        in6_addr address;
        uint32_t prefix;
        int interface;
      } own6{{{{0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}}, 64, 1};
      const int v6 = socket(AF_INET6, SOCK_DGRAM, 0);
      if (!keeps || ioctl(v4_, SIOCSIFFLAGS, &up) || ioctl(v4_, SIOCSIFADDR, &own) || ioctl(v6, SIOCSIFADDR, &own6)) problem = std::string("the loopback can't be set up or watched: ") + std::strerror(errno);
      close(v6);
    }).join();
  }
  ~OwnNetwork() {
    for (const int fd : {network_, seen_, v4_})
      if (fd >= 0) close(fd);
  }

  // What `f` opens is of this network.
  template <typename F>
  void inside(F&& f) {
    std::thread([&] {
      if (setns(network_, CLONE_NEWNET) == 0) f();
    }).join();
  }

  bool set_mtu(int mtu) {
    ifreq r = request("lo");
    r.ifr_mtu = mtu;
    return ioctl(v4_, SIOCSIFMTU, &r) == 0;
  }

  // The next UDP packet that arrived.
  Bytes arrived() {
    for (pollfd wait{seen_, POLLIN, 0}; poll(&wait, 1, kArrivalMs) > 0;) {
      Bytes packet(65536);
      const ssize_t n = recv(seen_, packet.data(), packet.size(), 0);
      if (n < ssize_t(kIpv4Header)) continue;
      packet.resize(size_t(n));
      if ((packet[0] >> 4 == 4 ? packet[9] : packet[6]) == kIpUdp) return packet;
    }
    return {};
  }

  // Why there is none; empty when there is.
  std::string problem;

 private:
  static ifreq request(const char* name) {
    ifreq r{};
    std::strcpy(r.ifr_name, name);
    return r;
  }

  int network_ = -1, seen_ = -1, v4_ = -1;
};

// The node performs the last service of path 5.
std::shared_ptr<MeshMap> exiting(bool resolved = true) {
  auto map = map_of();
  map->own_service = 2;
  map->paths[5].exits_directly = true;
  map->forwarders[0].resolved = resolved;
  return map;
}

// The inner frame of kStamped, on its way to `to`; `change` may write to its IP packet before its header checksum is made.
template <typename Change>
Bytes inner_to(std::initializer_list<uint8_t> to, Change&& change) {
  Bytes frame = with(Bytes(kStamped.begin() + kStampAt + kNshStamp, kStamped.end()), kEthernetHeader + 16, to);
  change(frame.data() + kEthernetHeader);
  fix_ip(frame);
  return frame;
}
Bytes inner_to(std::initializer_list<uint8_t> to) {
  return inner_to(to, [](uint8_t*) {});
}

Bytes inner6_to(std::initializer_list<uint8_t> to) {
  Bytes frame = hex("0200000000bb0200000000aa86dd6000000000091140fd010000000000000000000000000002fd090000000000000000000000000001cf84270f0009123477");
  std::copy(to.begin(), to.end(), frame.begin() + kEthernetHeader + 24);
  return frame;
}

// As the instance before sends it to the last one.
Sent stamped(const Bytes& inner) {
  Bytes frame(kStamped.begin(), kStamped.begin() + kStampAt + kNshStamp);
  frame.insert(frame.end(), inner.begin(), inner.end());
  store16(frame.data() + 16, uint16_t(frame.size() - kEthernetHeader));
  store16(frame.data() + 38, uint16_t(frame.size() - kEthernetHeader - kIpv4Header));
  frame = with(with(frame, kSiAt, {253}), 26, {10, 20, 0, 21});
  fix_ip(frame);
  return {frame, {}};
}

// What leaves straight, of a frame that a stamp was in front of.
Bytes left(const Bytes& inner) {
  Bytes frame = inner;
  if (frame[12] == 8) {
    frame[kEthernetHeader + 8]--;
    fix_ip(frame);
    frame.resize(kEthernetHeader + load16(frame.data() + kEthernetHeader + 2));
  } else {
    frame[kEthernetHeader + 7]--;
  }
  return Bytes(frame.begin() + kEthernetHeader, frame.end());
}

struct ExitNode {
  explicit ExitNode(OwnNetwork& n, std::shared_ptr<const MeshMap> map = exiting()) : network(n), t(map_of()) {
    network.inside([&] { t.node->install(std::move(map)); });
  }
  // The node's thread is of the network that it was started in.
  std::vector<Sent> run(std::vector<Sent> frames) {
    if (t.expected == 0) t.expected = frames.size();
    std::vector<Sent> sent;
    network.inside([&] { sent = t.run(std::move(frames)); });
    return sent;
  }
  uint64_t exited() const { return t.node->counters().exited.packets.get(); }
  uint64_t dropped(NodeDrop reason) const { return t.dropped(reason); }
  OwnNetwork& network;
  MeshNode t;
};

constexpr std::initializer_list<uint8_t> kHere = {10, 9, 0, 1};

}  // namespace

TEST_CASE("past the last service what travels with the opener leaves by itself, answers and other paths do not") {
  const auto map = exiting();
  CHECK(map->exits_directly());
  CHECK(!map_of()->exits_directly());
  MeshStep step = map->next(10, 253, kCode);
  CHECK(step.kind == MeshStep::Kind::exit);
  CHECK(step.si == 252);
  CHECK(step.place == &map->forwarders[0]);
  CHECK(exiting(false)->next(10, 253, kCode).kind == MeshStep::Kind::exit);
  CHECK(exiting(false)->next(10, 253, kCode).place == nullptr);
  auto first = exiting();
  first->own_service = 0;
  CHECK(first->next(11, 253, kCode).kind == MeshStep::Kind::forwarder);
  CHECK(first->next(10, 255, kCode).kind == MeshStep::Kind::instance);
  first->paths[5].answers_backwards = false;
  first->own_service = 2;
  CHECK(first->next(11, 253, kCode).kind == MeshStep::Kind::forwarder);
  // Past services that may be missing.
  auto open = exiting();
  open->own_service = 1;
  open->paths[5].hops[2] = {2, true, {}};
  CHECK(open->next(10, 254, kCode).kind == MeshStep::Kind::exit);
}

TEST_CASE("an IP packet leaves as it came, its TTL one less; what the kernel would change, or would not send elsewhere, goes to the forwarder") {
  OwnNetwork network;
  REQUIRE(network.problem == "");
  auto fragment = inner_to(kHere, [](uint8_t* p) { store16(p + 6, Ipv4::kMoreFragments); });
  auto unidentified = [](uint16_t field) {
    return inner_to(kHere, [&](uint8_t* p) { store16(p + 4, 0), store16(p + 6, field); });
  };
  auto padded = inner_to(kHere);
  padded.resize(60);
  auto tagged = inner_to(kHere);
  const uint8_t tag[] = {0x81, 0, 0, 7};
  tagged.insert(tagged.begin() + 12, tag, tag + 4);
  auto damaged = inner_to(kHere);
  damaged[kEthernetHeader + 8]--;
  const struct {
    const char* what;
    Bytes inner;
    bool leaves;  // else it goes to the forwarder
  } cases[] = {
      {"UDP", inner_to(kHere), true},
      {"a TTL of 2", inner_to(kHere, [](uint8_t* p) { p[8] = 2; }), true},
      {"a TTL of 1", inner_to(kHere, [](uint8_t* p) { p[8] = 1; }), false},
      {"a TTL of 0", inner_to(kHere, [](uint8_t* p) { p[8] = 0; }), false},
      {"padded, from a short frame", padded, true},
      {"not to be fragmented, without identification", unidentified(Ipv4::kDontFragment), true},
      {"without identification", unidentified(0), false},
      {"a fragment", fragment, true},
      {"a later fragment", inner_to(kHere, [](uint8_t* p) { store16(p + 6, 3); }), true},
      {"a fragment without identification", unidentified(Ipv4::kMoreFragments), false},
      {"IPv6", inner6_to({}), true},
      {"an IPv6 hop limit of 1", with(inner6_to({}), kEthernetHeader + 7, {1}), false},
      {"a VLAN tag", tagged, false},
      {"ARP", with(inner_to(kHere), 12, {8, 6}), false},
      {"a damaged header", damaged, false},
      {"to a group", inner_to({224, 0, 0, 9}), false},
      {"to everybody", inner_to({255, 255, 255, 255}), false},
      {"to the loopback", inner_to({127, 0, 0, 1}), false},
      {"to the link", inner_to({169, 254, 0, 1}), false},
      {"from nobody", inner_to(kHere, [](uint8_t* p) { store32(p + 12, 0); }), false},
      {"to another instance", inner_to({10, 20, 0, 21}), false},
      {"to this instance", inner_to({10, 20, 0, 11}), false},
      {"as if from the forwarder", inner_to(kHere, [](uint8_t* p) { store32(p + 12, 0x0a140001); }), false},
      {"to where stamps are taken", inner_to(kHere, [](uint8_t* p) { store16(p + 22, 4790); }), false},
      {"from where stamps come", inner_to(kHere, [](uint8_t* p) { store16(p + 20, 6081); }), false},
      {"to an IPv6 group", inner6_to({0xff, 2}), false},
      {"to the IPv6 link", inner6_to({0xfe, 0x80}), false},
      {"to the IPv6 loopback", inner6_to({0, 0}), false},
  };
  for (const auto& one : cases) {
    CAPTURE(one.what);
    ExitNode t(network);
    const std::vector<Sent> sent = t.run({stamped(one.inner)});
    CHECK(t.exited() == (one.leaves ? 1 : 0));
    REQUIRE(sent.size() == (one.leaves ? 0 : 1));
    if (one.leaves) {
      CHECK(network.arrived() == left(one.inner));
      CHECK(t.t.node->counters().exited.bytes.get() == left(one.inner).size());
      CHECK(t.t.node->counters().returned.packets.get() == 0);
    } else {
      CHECK(sent[0].bytes[33] == 1);
      CHECK(sent[0].bytes[kSiAt] == 252);
      CHECK(Bytes(sent[0].bytes.begin() + kStampAt + kNshStamp, sent[0].bytes.end()) == one.inner);
    }
  }
  ExitNode nowhere(network, exiting(false));
  CHECK(nowhere.run({stamped(tagged)}).empty());
  CHECK(nowhere.dropped(NodeDrop::unresolved) == 1);
}

TEST_CASE("of a frame of many datagrams each leaves by itself, more than a batch of them, in their order") {
  OwnNetwork network;
  REQUIRE(network.problem == "");
  constexpr uint16_t kMany = 150;
  std::vector<Bytes> inners;
  Bytes payload;
  for (uint16_t i = 1; i <= kMany; i++) {
    inners.push_back(inner_to(kHere, [&](uint8_t* p) { store16(p + 4, i); }));
    const Sent one = stamped(inners.back());
    payload.insert(payload.end(), one.bytes.begin() + kStampAt, one.bytes.end());
  }
  const uint32_t size = uint32_t(payload.size()) / kMany;
  Bytes frame = stamped(inners[0]).bytes;
  frame.resize(kStampAt);
  frame.insert(frame.end(), payload.begin(), payload.end());
  store16(frame.data() + 16, uint16_t(frame.size() - kEthernetHeader));
  store16(frame.data() + 38, uint16_t(frame.size() - kEthernetHeader - kIpv4Header));
  fix_ip(frame);
  ExitNode t(network);
  t.t.expected = kMany;
  CHECK(t.run({{frame, batch_offload(34, size)}}).empty());
  CHECK(t.exited() == kMany);
  for (const Bytes& inner : inners) REQUIRE(network.arrived() == left(inner));
}

TEST_CASE("what can't leave is counted by its reason, and what comes after it leaves") {
  OwnNetwork network;
  REQUIRE(network.problem == "");
  auto lost = [&](const Bytes& inner, NodeDrop reason) {
    ExitNode t(network);
    CHECK(t.run({stamped(inner), stamped(inner_to(kHere))}).empty());
    CHECK(t.dropped(reason) == 1);
    CHECK(t.exited() == 1);
    CHECK(network.arrived().size() == 32);
  };
  lost(inner_to({198, 51, 100, 7}), NodeDrop::exit_no_route);
  lost(inner_to({10, 255, 255, 255}), NodeDrop::exit_failed);  // a broadcast there
  REQUIRE(network.set_mtu(100));
  Bytes longer = inner_to(kHere, [](uint8_t* p) { store16(p + 2, 200), store16(p + 24, 180), store16(p + 6, Ipv4::kDontFragment); });
  longer.resize(kEthernetHeader + 200);
  lost(longer, NodeDrop::exit_too_long);
}

TEST_CASE("packets to somebody who does not answer hold up nobody else's") {
  OwnNetwork network;
  REQUIRE(network.problem == "");
  int made = -1;
  network.inside([&] { made = std::system("ip link add far0 type veth peer name far1 && ip link set far1 up && ip link set far0 up && ip addr add 10.8.0.1/24 dev far0"); });
  REQUIRE(made == 0);
  std::vector<Sent> frames(1000, stamped(inner_to({10, 8, 0, 66})));
  frames.push_back(stamped(inner_to(kHere)));
  ExitNode t(network);
  CHECK(t.run(frames).empty());
  CHECK(t.dropped(NodeDrop::exit_failed) == 0);
  CHECK(t.exited() == frames.size());
  CHECK(network.arrived() == left(inner_to(kHere)));
}

TEST_CASE("a stranger's packet does not leave") {
  OwnNetwork network;
  REQUIRE(network.problem == "");
  ExitNode t(network);
  Sent frame = stamped(inner_to(kHere));
  frame.bytes = with(frame.bytes, 26, {10, 99, 0, 1});
  fix_ip(frame.bytes);
  CHECK(t.run({frame}).empty());
  CHECK(t.exited() == 0);
  CHECK(t.dropped(NodeDrop::stranger) == 1);
}
