// The worker thread with ports in memory, under ThreadSanitizer: programs swapped and streams listed while frames run.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "frames.h"
#include "worker_group.h"

using namespace weir;
using namespace weir::test;

namespace {

// Makes the same frame with changing source ports, as fast as it is asked; counts what is sent.
class MemoryPort final : public Port {
 public:
  MemoryPort(bool source, std::atomic<uint64_t>& sent, uint32_t streams = 60'000) : source_(source), streams_(streams), sent_(sent) {}
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    if (!source_) return 0;
    std::array<Frame, Receiver::kMostFrames> frames;
    for (size_t i = 0; i < frames.size(); i++) {
      bytes_[i] = frame_;
      store16(&bytes_[i][34], uint16_t(1024 + next_++ % streams_));
      frames[i] = {bytes_[i].data(), uint32_t(bytes_[i].size()), uint32_t(bytes_[i].size()), 0, {}, false};
    }
    receiver.receive(id, frames);
    rx_.add(frames.size());
    return frames.size();
  }
  void release() override {}
  void send(const OutFrame&) override { queued_++; }
  void flush() override {
    sent_.fetch_add(queued_, std::memory_order_relaxed);
    queued_ = 0;
  }
  PortCounters counters() const override { return {rx_.get()}; }

 private:
  bool source_;
  uint32_t streams_;
  std::atomic<uint64_t>& sent_;
  uint64_t queued_ = 0;
  uint32_t next_ = 0;
  std::array<Bytes, Receiver::kMostFrames> bytes_;
  Counter rx_;
  const Bytes frame_ = hex("0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972");
};

}  // namespace

TEST_CASE("programs are swapped and streams read while several workers run, on the same streams") {
  constexpr uint32_t kWorkers = 3;
  // Fewer entries than streams: they are evicted and used again all the time. And a table that holds them all.
  for (const uint32_t capacity : {5000u, 100'000u}) {
    std::atomic<uint64_t> sent{0};
    std::vector<std::vector<std::shared_ptr<Port>>> ports(kWorkers);
    for (auto& own : ports) {
      own.push_back(std::make_unique<MemoryPort>(false, sent));
      own.push_back(std::make_unique<MemoryPort>(true, sent, capacity == 5000 ? 60'000 : 2000));
      own.push_back(nullptr);
    }
    WorkerGroup workers({capacity}, std::move(ports));
    std::string reason = "not ended";
    workers.start(program(Encapsulation::nsh), [&](std::string r) { reason = std::move(r); });

    std::mutex mutex;
    std::condition_variable changed;
    int installed = 0, listed = 0;
    for (int i = 0; i < 200; i++) {
      // A path goes only when no stream is on it any more: where streams stay, so does the path.
      auto next = program(i % 2 ? Encapsulation::nsh : Encapsulation::geneve, capacity == 5000 ? uint32_t(1 + i % 3) : 1);
      if (capacity == 100'000) {  // streams go from one policy to another and back
        next->rules[0].policy = uint32_t(i % 2);
        next->moves = {{1, uint64_t(i)}, {0, uint64_t(i)}};
        CHECK(next->check().empty());
      }
      workers.install(next, [&] {
        std::lock_guard lock(mutex);
        installed++;
        changed.notify_one();
      });
      workers.post([&](Engine& engine) {
        std::vector<FlowView> views;
        {
          std::lock_guard lock(engine.flows().lock());
          for (uint32_t n = 1; n <= engine.flows().high_water() && views.size() < 50; n++)
            if (const Flow* flow = engine.flows().at(n)) views.push_back(engine.view(*flow));
        }
        std::lock_guard lock(mutex);
        listed++;
        changed.notify_one();
      });
      workers.collect();
      (void)workers.counters()[1]->stamped.packets.get();
      (void)workers.port_counters(1);
    }
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return installed == 200 && listed == 200; });
    }
    while (sent.load() < 20'000) std::this_thread::yield();
    workers.stop();
    workers.join();
    CHECK(reason.empty());
    uint64_t active = 0, opened = 0, closed = 0, seen = 0;
    for (const Counters* c : workers.counters()) {
      active += c->streams_active.get();
      opened += c->streams_opened.get();
      closed += c->streams_evicted.get() + c->streams_expired.get();
      seen += c->captured.packets.get();
    }
    CHECK(active <= capacity);
    CHECK(active == opened - closed);
    if (capacity == 100'000) {
      uint64_t decided = 0;
      for (const Counters* c : workers.counters()) decided += c->policies[0].streams.get() + c->policies[1].streams.get();
      CHECK(decided > opened);
    }
    if (capacity == 100'000) CHECK(active == 2000);  // no stream is opened twice, though three workers see each
    
  }
}
