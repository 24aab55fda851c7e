// A data-plane unit whose maps change and whose streams are counted by other threads while packets run, under ThreadSanitizer.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <thread>

#include "node/service_node.h"
#include "stamped_frames.h"

using namespace weir;
using namespace weir::test;

namespace {

constexpr uint32_t kStreams = 5000;

// As many frames as there are tickets, of one stream after the other.
class StreamsPort final : public Port {
 public:
  std::atomic<uint64_t> tickets{0}, sent{0};
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    const uint64_t wanted = std::min<uint64_t>(tickets.load(), Receiver::kMostFrames);
    if (!wanted) return 0;
    std::array<Frame, Receiver::kMostFrames> frames;
    for (size_t i = 0; i < wanted; i++) {
      bytes_[i] = stamped(false, 1, 11, 1 + next_++ % kStreams);
      frames[i] = {bytes_[i].data(), uint32_t(bytes_[i].size()), uint32_t(bytes_[i].size()), 0, {}, false};
    }
    receiver.receive(id, {frames.data(), wanted});
    tickets.fetch_sub(wanted);
    return uint32_t(wanted);
  }
  void release() override {}
  void send(const OutFrame&) override { sent++; }
  void flush() override {}
  PortCounters counters() const override { return {}; }

 private:
  uint32_t next_ = 0;
  std::array<Bytes, Receiver::kMostFrames> bytes_;
};

// Two to five units serve by the newest of two maps; the first is this one.
std::shared_ptr<const UnitMaps> maps_of(uint32_t round) {
  auto maps = std::make_shared<UnitMaps>();
  maps->own = {at(false, 11), mac(11), true};
  maps->own_unit = 0;
  maps->epoch = round / 50;
  maps->opened = round + 1;
  maps->dispatchers = {{at(false, 1), mac(1), true}};
  for (uint8_t unit = 0; unit < 5; unit++) maps->units.push_back({{at(false, uint8_t(11 + unit)), mac(uint8_t(11 + unit)), true}, {unit * 77u + 5, unit * 991u + 3}});
  for (const uint32_t version : {round, round + 1}) {
    UnitMap map{version, {}};
    for (uint16_t unit = 0; unit < 2 + version % 4; unit++) map.members.push_back({unit, 1});
    maps->maps.push_back(std::move(map));
  }
  REQUIRE(maps->check() == "");
  return maps;
}

}  // namespace

TEST_CASE("a unit's maps change and its streams are counted while packets run") {
  auto owned = std::make_unique<StreamsPort>();
  StreamsPort* port = owned.get();
  ServiceNode node(std::move(owned), at(false, 11), ServiceNode::Function::pass);
  node.start([](std::string) {});
  node.join_appliance(maps_of(1));
  std::atomic<bool> over{false};
  std::thread counting([&] {
    while (!over) {
      const SecondChance::Live live = node.second_chance()->live(*node.units(), steady_s());
      uint32_t sum = live.elsewhere;
      for (const uint32_t streams : live.by_map) sum += streams;
      CHECK(live.streams == sum);
      CHECK(live.streams <= kStreams);
    }
  });
  constexpr uint64_t kFrames = 1000, kRounds = 200;
  for (uint32_t round = 1; round <= kRounds; round++) {
    node.join_appliance(maps_of(round));
    port->tickets.fetch_add(kFrames);
    node.wake()->now();
    for (int i = 0; port->tickets > 2 * kFrames && i < 20'000; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (int i = 0; port->tickets > 0 && i < 20'000; i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  over = true;
  counting.join();
  const ChanceCounters& counters = node.second_chance()->counters();
  const uint64_t served = node.counters().returned.packets.get(), passed_on = counters.passed_on.packets.get();
  CHECK(served + passed_on == kFrames * kRounds);
  CHECK(port->sent == kFrames * kRounds);
  CHECK(passed_on > 0);
  CHECK(counters.opened.get() > 0);
  node.stop();
  node.join();
}
