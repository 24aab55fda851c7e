// The worker thread with ports in memory, under ThreadSanitizer: programs swapped and streams listed while frames run.
#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "frames.h"
#include "worker.h"

using namespace weir;
using namespace weir::test;

namespace {

// Makes the same frame with changing source ports, as fast as it is asked; counts what is sent.
class MemoryPort final : public Port {
 public:
  MemoryPort(bool source, std::atomic<uint64_t>& sent) : source_(source), sent_(sent) {}
  int descriptor() const override { return -1; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    if (!source_) return 0;
    for (uint32_t i = 0; i < 32; i++) {
      Bytes bytes = frame_;
      store16(&bytes[34], next_++);
      Frame frame{bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
      receiver.receive(id, frame);
    }
    rx_.add(32);
    return 32;
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
  std::atomic<uint64_t>& sent_;
  uint64_t queued_ = 0;
  uint16_t next_ = 1024;
  Counter rx_;
  const Bytes frame_ = hex("0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972");
};

}  // namespace

TEST_CASE("programs are swapped and streams read while frames run") {
  std::atomic<uint64_t> sent{0};
  std::vector<std::unique_ptr<Port>> ports;
  ports.push_back(std::make_unique<MemoryPort>(false, sent));
  ports.push_back(std::make_unique<MemoryPort>(true, sent));
  ports.push_back(nullptr);
  Worker worker({5000}, std::move(ports));
  std::string reason = "not ended";
  worker.start(program(Encapsulation::nsh), [&](std::string r) { reason = std::move(r); });

  std::mutex mutex;
  std::condition_variable changed;
  int answered = 0;
  for (int i = 0; i < 200; i++) {
    auto next = program(i % 2 ? Encapsulation::nsh : Encapsulation::geneve, uint32_t(1 + i % 3));
    worker.post([&, next](Engine& engine) {
      engine.install(next);
      std::vector<FlowView> views;
      for (uint32_t n = 1; n <= engine.flows().high_water() && views.size() < 50; n++)
        if (const Flow* flow = engine.flows().at(n)) views.push_back(engine.view(*flow));
      std::lock_guard lock(mutex);
      answered++;
      changed.notify_one();
    });
    (void)worker.counters().stamped.packets.get();
    (void)worker.ports()[1]->counters();
  }
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return answered == 200; });
  }
  while (sent.load() < 10'000) std::this_thread::yield();
  worker.stop();
  worker.join();
  CHECK(reason.empty());
  CHECK(worker.counters().streams_active.get() <= 5000);
}
