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
#include "port/port.h"

namespace weir {

class Worker final : Receiver, Sink {
 public:
  using Task = std::function<void(Engine&)>;

  // ports[i] serves PortId i; null where the program sends and expects nothing.
  Worker(std::shared_ptr<EngineState> state, uint32_t number, std::vector<std::unique_ptr<Port>> ports);
  ~Worker();

  // Starts the thread. `finished` is called on it as the last thing, with the reason or an empty string after stop().
  void start(std::function<void(std::string)> finished);
  // Runs a task on the thread, between batches; at once and here if the thread has ended.
  void post(Task task);
  void stop();
  void join();

  const Counters& counters() const { return engine_.counters(); }
  const std::vector<std::unique_ptr<Port>>& ports() const { return ports_; }

 private:
  void receive(PortId port, std::span<Frame> frames) override;
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override;
  bool carries(PortId port, uint8_t gso) const override { return port < ports_.size() && ports_[port] && ports_[port]->carries(gso); }

  std::string run();
  void run_tasks();
  void flush();
  void wait();
  std::string port_failure() const;

  Engine engine_;
  std::vector<std::unique_ptr<Port>> ports_;
  ScratchArena arena_;
  uint64_t now_ns_ = 0;
  std::vector<pollfd> poll_;

  int wake_ = -1;  // eventfd
  std::atomic<bool> stopping_{false}, has_tasks_{false};
  std::mutex tasks_mutex_;
  std::vector<Task> tasks_;
  bool ended_ = false;  // under the mutex
  std::thread thread_;
};

}  // namespace weir
