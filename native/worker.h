// One thread: frames from its ports through its engine to its ports. Other threads talk to it by tasks that it runs between
// two batches; what they may read at any time are counters.
#pragma once
#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "engine/latency.h"
#include "port/moderation.h"
#include "port/port.h"

namespace weir {

// CLOCK_MONOTONIC: one clock for all processes of a boot, so that times in a flow table stay right from one to the next.
uint64_t monotonic_ns();

class Worker final : Receiver, Sink {
 public:
  using Task = std::function<void(Engine&)>;

  // ports[i] serves PortId i; null where the program sends and expects nothing.
  Worker(std::shared_ptr<EngineState> state, uint32_t number, std::vector<std::shared_ptr<Port>> ports);
  ~Worker();

  // Called on the thread when there is news of probes (Probes::take_news); before start().
  void on_probe_news(std::function<void()> told) { probe_news_ = std::move(told); }
  // Starts the thread. `finished` is called on it as the last thing, with the reason or an empty string after stop().
  void start(std::function<void(std::string)> finished);
  // After join(): ready for start() once more.
  void rearm();
  // Runs a task on the thread, between batches; at once and here if the thread has ended.
  void post(Task task);
  void stop();
  void join();

  // While the thread does not run.
  Engine& engine() { return engine_; }
  const Counters& counters() const { return engine_.counters(); }
  // Puts a port in place of another, or behind the others. In a task.
  void set_port(PortId id, std::shared_ptr<Port> port);
  // Grows while the thread is alive and not stuck, also when nothing comes in: some 50 a second at least.
  uint64_t turns() const { return turns_.get(); }
  // Of one group of frames (Receiver::kMostFrames at most) in the pipeline; every kSampled-th is timed.
  const Latency& group_latency() const { return group_latency_; }
  // From when the kernel took the oldest frame of a batch until what became of the batch was handed back to the kernel.
  const Latency& transit_latency() const { return transit_latency_; }
  // Processor time that the thread has used; 0 when it has ended.
  uint64_t cpu_ns() const;

 private:
  void receive(PortId port, std::span<Frame> frames) override;
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override;
  bool carries(PortId port, uint8_t gso) const override { return port < ports_.size() && ports_[port] && ports_[port]->carries(gso); }

  std::string run();
  void run_tasks();
  void flush();
  void wait();
  void probe();

  Engine engine_;
  std::vector<std::shared_ptr<Port>> ports_;
  ScratchArena arena_;
  const bool first_;
  std::function<void()> probe_news_;
  uint64_t now_ns_ = 0, looked_ns_ = 0;
  static constexpr uint32_t kSampled = 16;
  uint32_t unsampled_ = 0;
  Counter turns_;
  Latency group_latency_, transit_latency_;
  std::vector<pollfd> poll_;
  Moderation moderation_;

  int wake_ = -1;  // eventfd
  std::atomic<bool> stopping_{false}, has_tasks_{false};
  std::mutex tasks_mutex_;
  std::vector<Task> tasks_;
  bool ended_ = false;  // under the mutex
  std::thread thread_;
};

}  // namespace weir
