// All workers of a dataplane: each has its own ports (one fanout group an interface) and its own engine over the shared state.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "worker.h"

namespace weir {

class WorkerGroup {
 public:
  // ports[w][i] serves PortId i for worker w. At most kMaxWorkers.
  WorkerGroup(const EngineLimits& limits, std::vector<std::vector<std::shared_ptr<Port>>> ports);
  ~WorkerGroup();

  // What the flow table's file holds, by this program; before start() or between pauses. Nothing where it has no file.
  Adoption adopt(std::shared_ptr<const Program> program, uint64_t now_ns, std::span<const uint32_t> tenants);
  // `finished` is called once, when the last thread ends, with the first reason given or an empty string after stop().
  void start(std::shared_ptr<const Program> program, std::function<void(std::string)> finished);
  // Called on some worker's thread when there is news of probes; before start().
  void on_probe_news(const std::function<void()>& told) {
    for (const auto& worker : workers_) worker->on_probe_news(told);
  }
  std::vector<ProbeRow> probe_rows() const { return state_->probes.rows(); }
  // Puts a program in force. `done` is called (on some worker's thread) when every worker has taken it up.
  void install(std::shared_ptr<const Program> program, std::function<void()> done);
  // Frees the programs that nobody uses any more; for the thread that installs.
  void collect() { state_->program.collect(); }
  // Runs a task on the first worker's thread.
  void post(Worker::Task task) { workers_.front()->post(std::move(task)); }
  // Makes sure of the memory that a program's streams may need. Returns what is wrong, or an empty string.
  std::string reserve(const Program& program) { return state_->flows.reserve(program.longest_path()); }
  void stop();
  void join();
  // After the last thread has ended: all of them once more, with counts of live streams taken anew from the table.
  void resume(std::shared_ptr<const Program> program, uint64_t now_ns, std::span<const uint32_t> tenants, std::function<void(std::string)> finished);

  size_t size() const { return workers_.size(); }
  std::vector<const Counters*> counters() const;
  PortCounters port_counters(PortId port) const;
  // Of all ports of one worker.
  PortCounters worker_port_counters(size_t worker) const;
  const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }
  // Whether other packet sockets of the host see what leaves this port, also when it is replaced.
  void show(PortId port, bool on);
  // A worker each. Puts them in place of what was at `port`; `done` as for install(). This and the readers of ports are for one thread.
  void set_ports(PortId port, std::vector<std::shared_ptr<Port>> ports, std::function<void()> done);
  size_t port_count() const { return ports_.front().size(); }
  bool has_port(PortId port) const { return ports_.front()[port] != nullptr; }
  FlowTable& flows() { return state_->flows; }
  Port* port(size_t worker, PortId port) { return ports_[worker][port].get(); }
  uint32_t flow_capacity() const { return state_->flows.capacity(); }
  uint32_t fragments_held() const { return state_->fragments.held(); }

 private:
  std::shared_ptr<EngineState> state_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::vector<std::shared_ptr<Port>>> ports_;  // by worker: the same that it has
  std::vector<PortCounters> former_;                       // by port: of those that were replaced
  std::set<PortId> shown_;
  std::mutex mutex_;
  std::string reason_;
  size_t running_ = 0;
};

}  // namespace weir
