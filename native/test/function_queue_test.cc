// A service node around a function that answers late, wrongly, or not at all; and two threads on its queue, under ThreadSanitizer.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <thread>

#include "frames.h"
#include "running_node.h"

using namespace weir;
using namespace weir::test;

namespace {

// To 10.20.0.11, path 5, SI 255, code 0xf1737551; the inner packet has 46 bytes.
const Bytes kStamped = hex(
    "02000000000b02000000000108004500006200004000401126580a1400010a14000bf55112b6004e00000c0000040000"
    "00000fc40203000005ff00000804f17375510200000000bb0200000000aa08004500002000010000401160ba0a010002"
    "08080808cf84270f000c0e5877656972");

const Address kNode = Address::from_ipv4(std::array<uint8_t, 4>{10, 20, 0, 11}.data());

// As many frames as there are tickets; counts and keeps what is sent.
class TicketPort final : public Port {
 public:
  std::atomic<uint64_t> tickets{0}, sent{0};
  std::atomic<uint8_t> last_si{0}, last_byte{0};
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    const uint64_t wanted = std::min<uint64_t>(tickets.load(), Receiver::kMostFrames);
    if (!wanted) return 0;
    tickets.fetch_sub(wanted);
    std::array<Frame, Receiver::kMostFrames> frames;
    for (size_t i = 0; i < wanted; i++) {
      bytes_[i] = kStamped;
      frames[i] = {bytes_[i].data(), uint32_t(bytes_[i].size()), uint32_t(bytes_[i].size()), 0, {}, false};
    }
    receiver.receive(id, {frames.data(), wanted});
    return uint32_t(wanted);
  }
  void release() override {}
  void send(const OutFrame& frame) override {
    Bytes whole;
    for (const Piece& piece : frame.pieces) whole.insert(whole.end(), piece.bytes, piece.bytes + piece.length);
    last_si = whole[42 + kNshPathWord + 3];
    last_byte = whole.back();
    sent++;
  }
  void flush() override {}
  PortCounters counters() const override { return {}; }

 private:
  std::array<Bytes, Receiver::kMostFrames> bytes_;
};

struct TestNode : RunningNode<TicketPort> {
  explicit TestNode(ServiceNode::Function function) : RunningNode(kNode, function) {}
  void send(uint64_t frames) {
    port->tickets.fetch_add(frames);
    node->wake()->now();
  }
  uint64_t answered() const {
    uint64_t sum = node->counters().returned.packets.get();
    for (const Counter& c : node->counters().dropped) sum += c.get();
    return sum;
  }
};

std::shared_ptr<FunctionQueue> attach(TestNode& t, std::function<void()> wake = [] {}) {
  auto queue = std::make_shared<FunctionQueue>(std::move(wake), [w = t.node->wake()] { w->now(); });
  t.node->attach(queue);
  return queue;
}

void answer(Slab& slab, FunctionVerdict verdict) {
  for (uint32_t i = 0; i < slab.packets().size(); i++) slab.memory()[Slab::kVerdictsAt + i] = uint8_t(verdict);
}

}  // namespace

TEST_CASE("a function's verdicts: forward as the packet is now, drop, replace, none") {
  TestNode t(ServiceNode::Function::closed);
  auto queue = attach(t);
  uint32_t in_hand = 0;
  const auto next = [&] {
    t.send(1);
    int taken = -1;
    REQUIRE(eventually([&] { return (taken = queue->take()) >= 0; }));
    in_hand = uint32_t(taken);
    Slab& slab = queue->slab(uint32_t(taken));
    REQUIRE(slab.packets().size() == 1);
    REQUIRE(slab.packets()[0].length == 46);
    CHECK(slab.packets()[0].view.code == 0xf1737551);
    CHECK(slab.packets()[0].view.ethernet);
    return &slab;
  };
  Slab* slab = next();
  slab->bytes()[slab->packets()[0].at + 45] = 'X';
  answer(*slab, FunctionVerdict::forward);
  queue->give(in_hand);
  REQUIRE(eventually([&] { return t.port->sent == 1; }));
  CHECK(t.port->last_si == 254);
  CHECK(t.port->last_byte == 'X');

  slab = next();
  const uint8_t other[3] = {1, 2, 3};
  slab->replace(0, other);
  answer(*slab, FunctionVerdict::replace);
  queue->give(in_hand);
  REQUIRE(eventually([&] { return t.port->sent == 2; }));
  CHECK(t.port->last_byte == 3);

  slab = next();
  answer(*slab, FunctionVerdict::drop);
  queue->give(in_hand);
  CHECK(eventually([&] { return t.dropped(NodeDrop::function_drop) == 1; }));

  slab = next();  // nothing answered
  queue->give(in_hand);
  CHECK(eventually([&] { return t.dropped(NodeDrop::function_error) == 1; }));

  slab = next();  // a replacement that is not there, and a verdict that is none
  answer(*slab, FunctionVerdict::replace);
  queue->give(in_hand);
  CHECK(eventually([&] { return t.dropped(NodeDrop::function_error) == 2; }));
  slab = next();
  answer(*slab, FunctionVerdict(200));
  queue->give(in_hand);
  queue->give(in_hand);  // none in hand
  CHECK(eventually([&] { return t.dropped(NodeDrop::function_error) == 3; }));
  CHECK(t.port->sent == 2);
}

TEST_CASE("a function that does not answer: a bounded queue, then drops with their reason, or past it") {
  for (const bool open : {false, true}) {
    TestNode t(open ? ServiceNode::Function::open : ServiceNode::Function::closed);
    t.send(10);  // none there yet
    CHECK(eventually([&] { return t.answered() == 10; }));
    CHECK(t.dropped(NodeDrop::no_function) == (open ? 0 : 10));
    auto queue = attach(t);
    // The first slabs are handed on as they come, the others filled up.
    constexpr uint64_t kRoom = FunctionQueue::kAhead * Receiver::kMostFrames + (FunctionQueue::kSlabs - FunctionQueue::kAhead) * Slab::kMostPackets;
    t.send(kRoom + 100);
    CHECK(eventually([&] { return t.answered() == 110; }));
    CHECK(queue->waiting_ns(steady_ns()) > 0);
    CHECK(t.dropped(NodeDrop::queue_full) == (open ? 0 : 100));
    CHECK(t.node->counters().bypassed.packets.get() == (open ? 110 : 0));
    CHECK(t.port->sent == (open ? 110 : 0));
    if (open) CHECK(t.port->last_si == 254);
    // It goes, with all that it has not answered.
    queue->close();
    t.node->detach(queue.get());
    CHECK(eventually([&] { return t.dropped(NodeDrop::no_function) == kRoom + (open ? 0 : 10); }));
    CHECK(queue->take() == -1);
    t.send(5);
    CHECK(eventually([&] { return t.answered() == kRoom + 115; }));
  }
}

TEST_CASE("a function in a thread of its own, come and gone while packets run: each is accounted for once") {
  TestNode t(ServiceNode::Function::closed);
  std::atomic<bool> over{false};
  std::atomic<uint64_t> handled{0};
  std::thread function([&] {
    while (!over) {
      auto queue = attach(t);
      for (int n = 1; n <= 7 && !over;) {
        const int taken = queue->take();
        if (taken < 0) {
          std::this_thread::yield();
          continue;
        }
        Slab& slab = queue->slab(uint32_t(taken));
        answer(slab, n % 3 ? FunctionVerdict::forward : FunctionVerdict::drop);
        handled += slab.packets().size();
        if (n++ < 7) queue->give(uint32_t(taken));  // it ends with one in hand
      }
      queue->close();
      t.node->detach(queue.get());
    }
  });
  constexpr uint64_t kFrames = 200'000;
  uint64_t sent = 0;
  // On a busy machine the function's thread may have its first turn late.
  for (; sent < kFrames || (handled == 0 && sent < 100 * kFrames); sent += 1000) {
    t.send(1000);
    REQUIRE(eventually([&] { return t.port->tickets == 0; }));
  }
  CHECK(eventually([&] { return t.answered() == sent; }));
  over = true;
  function.join();
  CHECK(handled > 0);
  CHECK(t.answered() == sent);
  CHECK(t.node->counters().received.packets.get() == sent);
}
