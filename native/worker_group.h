// All workers of a dataplane: each has its own ports (one fanout group an interface) and its own engine over the shared state.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "worker.h"

namespace weir {

class WorkerGroup {
 public:
  // ports[w][i] serves PortId i for worker w. At most kMaxWorkers.
  WorkerGroup(const EngineLimits& limits, std::vector<std::vector<std::unique_ptr<Port>>> ports);
  ~WorkerGroup();

  // `finished` is called once, when the last thread ends, with the first reason given or an empty string after stop().
  void start(std::shared_ptr<const Program> program, std::function<void(std::string)> finished);
  // Puts a program in force. `done` is called (on some worker's thread) when every worker has taken it up.
  void install(std::shared_ptr<const Program> program, std::function<void()> done);
  // Frees the programs that nobody uses any more; for the thread that installs.
  void collect() { state_->program.collect(); }
  // Runs a task on the first worker's thread.
  void post(Worker::Task task) { workers_.front()->post(std::move(task)); }
  void stop();
  void join();

  size_t size() const { return workers_.size(); }
  std::vector<const Counters*> counters() const;
  PortCounters port_counters(PortId port) const;
  bool has_port(PortId port) const { return workers_.front()->ports()[port] != nullptr; }
  uint32_t flow_capacity() const { return state_->flows.capacity(); }

 private:
  std::shared_ptr<EngineState> state_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::mutex mutex_;
  std::string reason_;
  size_t running_ = 0;
};

}  // namespace weir
