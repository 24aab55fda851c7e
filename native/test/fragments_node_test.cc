// A service node that gets datagrams in fragments: it returns them in fragments that are no longer than those it got.
#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "running_node.h"
#include "stamped_frames.h"

using namespace weir;
using namespace weir::test;

namespace {

// Hands over what is given to it, and keeps what is sent.
class WirePort final : public Port {
 public:
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    std::vector<Bytes> taken;
    {
      std::lock_guard lock(mutex_);
      taken.swap(waiting_);
    }
    for (Bytes& bytes : taken) {
      Frame frame{bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
      receiver.receive(id, {&frame, 1});
    }
    held_ = std::move(taken);
    return uint32_t(held_.size());
  }
  void release() override { held_.clear(); }
  void send(const OutFrame& frame) override {
    Bytes bytes;
    for (const Piece& piece : frame.pieces) bytes.insert(bytes.end(), piece.bytes, piece.bytes + piece.length);
    std::lock_guard lock(mutex_);
    sent_.push_back(std::move(bytes));
  }
  void flush() override {}
  PortCounters counters() const override { return {}; }

  void give(const std::vector<Bytes>& frames) {
    std::lock_guard lock(mutex_);
    waiting_ = frames;
  }
  std::vector<Bytes> sent() {
    std::lock_guard lock(mutex_);
    return sent_;
  }

 private:
  std::mutex mutex_;
  std::vector<Bytes> waiting_, held_, sent_;
};

struct TestNode : RunningNode<WirePort> {
  TestNode(bool ipv6, ServiceNode::Function function) : RunningNode(at(ipv6, 11), function) {}
  void send(const std::vector<Bytes>& frames) {
    port->give(frames);
    node->wake()->now();
  }
};

// From the forwarder, with a packet of this length.
Bytes long_frame(bool ipv6, uint32_t length) {
  Bytes inner(14 + length);
  for (size_t i = 0; i < inner.size(); i++) inner[i] = uint8_t(i * 7 + (i >> 8));
  return stamped(ipv6, 1, 11, 0x01020304, 255, inner);
}

std::vector<Bytes> cut(const Bytes& frame, uint32_t mtu, uint32_t id) {
  FrameCollector sink;
  const Piece piece{frame.data(), uint32_t(frame.size())};
  REQUIRE(cut_outer({0, {}, {&piece, 1}}, mtu, id, sink) > 1);
  std::vector<Bytes> out;
  for (CollectedFrame& f : sink.frames()) out.push_back(std::move(f.bytes));
  return out;
}

// Put together again; each at most `mtu` long.
std::vector<Bytes> wholes(const std::vector<Bytes>& fragments, uint32_t mtu) {
  OuterReassembly reassembly;
  FrameCollector sink;
  std::vector<Bytes> out;
  for (Bytes f : fragments) {
    CHECK(f.size() <= 14 + mtu);
    const Frame frame{f.data(), uint32_t(f.size()), uint32_t(f.size()), 0, {}, false};
    const OuterFragment fragment = read_outer_fragment(frame);
    REQUIRE(fragment.kind == OuterFragment::Kind::fragment);
    const auto result = reassembly.add(fragment, frame, 1, sink);
    if (result.outcome == OuterReassembly::Outcome::whole) out.emplace_back(result.frame.bytes, result.frame.bytes + result.frame.length);
  }
  return out;
}

void turned_right(Bytes& back, const Bytes& whole, bool ipv6) {
  const StampedFrame outer = outer_of(back);
  CHECK(outer.source == at(ipv6, 11));
  CHECK(outer.destination == at(ipv6, 1));
  CHECK(back[outer.payload + kNshPathWord + 3] == 254);
  CHECK(std::equal(back.begin() + outer.payload + 24, back.end(), whole.begin() + outer.payload + 24, whole.end()));
}

}  // namespace

TEST_CASE("pass: a datagram that came in fragments goes back in such as are no longer") {
  for (const bool ipv6 : {false, true}) {
    for (const uint32_t mtu : {1500u, 1400u}) {
      TestNode t(ipv6, ServiceNode::Function::pass);
      const Bytes whole = long_frame(ipv6, 3000);
      std::vector<Bytes> fragments = cut(whole, mtu, 7);
      std::swap(fragments[0], fragments[1]);
      fragments.push_back(long_frame(ipv6, 100));  // goes back as it came
      t.send(fragments);
      REQUIRE(eventually([&] { return t.node->counters().returned.packets.get() == 2; }));
      std::vector<Bytes> sent = t.port->sent();
      REQUIRE(sent.size() == fragments.size());
      CHECK(sent.back().size() == fragments.back().size());
      sent.pop_back();
      std::vector<Bytes> back = wholes(sent, mtu);
      REQUIRE(back.size() == 1);
      turned_right(back[0], whole, ipv6);
      CHECK(t.node->counters().received.packets.get() == 2);
      CHECK(t.node->fragments().received.get() == fragments.size() - 1);
      CHECK(t.node->fragments().reassembled.get() == 1);
      CHECK(t.node->fragments().fragmented.get() == 1);
      CHECK(t.node->fragments().sent.get() == sent.size());
    }
  }
}

TEST_CASE("a function's packets: forwarded, made longer, made so short that they fit") {
  for (const bool ipv6 : {false, true}) {
    TestNode t(ipv6, ServiceNode::Function::closed);
    auto queue = std::make_shared<FunctionQueue>([] {}, [w = t.node->wake()] { w->now(); });
    t.node->attach(queue);
    const Bytes whole = long_frame(ipv6, 2000);
    uint32_t slab = 0;
    size_t before = 0;
    uint32_t id = 0;
    const auto next = [&](const Bytes& inner) {
      t.send(cut(whole, 1500, id++));
      int taken = -1;
      REQUIRE(eventually([&] { return (taken = queue->take()) >= 0; }));
      slab = uint32_t(taken);
      Slab& s = queue->slab(slab);
      REQUIRE(s.packets().size() == 1);
      CHECK(s.packets()[0].length == 2014);
      if (!inner.empty()) s.replace(0, inner);
      s.memory()[Slab::kVerdictsAt] = uint8_t(inner.empty() ? FunctionVerdict::forward : FunctionVerdict::replace);
      before = t.port->sent().size();
      const uint64_t returned = t.node->counters().returned.packets.get();
      queue->give(slab);
      REQUIRE(eventually([&] { return t.node->counters().returned.packets.get() == returned + 1; }));
      const std::vector<Bytes> sent = t.port->sent();
      return std::vector<Bytes>(sent.begin() + long(before), sent.end());
    };
    std::vector<Bytes> back = wholes(next({}), 1500);
    REQUIRE(back.size() == 1);
    turned_right(back[0], whole, ipv6);
    back = wholes(next(Bytes(4000, 'l')), 1500);
    REQUIRE(back.size() == 1);
    CHECK(outer_of(back[0]).payload_end - outer_of(back[0]).payload == 24 + 4000);
    back = next(Bytes(300, 's'));
    REQUIRE(back.size() == 1);
    CHECK(outer_of(back[0]).payload_end - outer_of(back[0]).payload == 24 + 300);
  }
}

TEST_CASE("what never becomes whole is counted by its reason, a datagram once") {
  TestNode t(false, ServiceNode::Function::pass);
  const std::vector<Bytes> fragments = cut(long_frame(false, 3000), 1500, 1);
  std::vector<Bytes> other = cut(long_frame(false, 3000), 1500, 2);
  Bytes overlapping = other[1];
  overlapping.back() ^= 1;
  Bytes lying = cut(long_frame(false, 3000), 1500, 3)[0];
  store16(&lying[16], 9000);
  Bytes elsewhere = cut(long_frame(false, 3000), 1500, 4)[0];
  elsewhere[33] = 99;
  t.send({fragments[0], fragments[2], other[1], overlapping, other[0], lying, elsewhere});
  REQUIRE(eventually([&] { return t.dropped(NodeDrop::fragment_timeout) == 1; }));
  CHECK(t.dropped(NodeDrop::fragment_overlap) == 1);
  CHECK(t.dropped(NodeDrop::malformed) == 1);
  CHECK(t.node->counters().received.packets.get() == 3);
  CHECK(t.port->sent().empty());
}

TEST_CASE("a group's primary directs a datagram on in fragments, as it came") {
  for (const bool ipv6 : {false, true}) {
    auto group = std::make_shared<Group>();
    group->primary = true;
    group->own_id = 11;
    group->own = at(ipv6, 11);
    group->own_mac = mac(11);
    // It takes no streams itself.
    for (uint8_t id = 11; id <= 12; id++) group->members.push_back({.id = id, .address = at(ipv6, id), .mac = mac(id), .usable = true, .takes_new = id == 12, .seed = {id * 77u, id * 991u}});
    REQUIRE(group->check() == "");
    TestNode t(ipv6, ServiceNode::Function::pass);
    t.node->join_group(group);
    const Bytes whole = long_frame(ipv6, 3000);
    t.send(cut(whole, 1500, 7));
    REQUIRE(eventually([&] { return t.port->sent().size() == 3; }));
    std::vector<Bytes> on = wholes(t.port->sent(), 1500);
    REQUIRE(on.size() == 1);
    const StampedFrame outer = outer_of(on[0]);
    CHECK(outer.source == at(ipv6, 11));
    CHECK(outer.destination == at(ipv6, 12));
    CHECK(std::equal(on[0].begin() + outer.payload, on[0].end(), whole.begin() + outer.payload, whole.end()));
  }
}
