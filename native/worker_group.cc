#include "worker_group.h"

namespace weir {

WorkerGroup::WorkerGroup(const EngineLimits& limits, std::vector<std::vector<std::unique_ptr<Port>>> ports)
    : state_(std::make_shared<EngineState>(limits)) {
  for (auto& own : ports) workers_.push_back(std::make_unique<Worker>(state_, uint32_t(workers_.size()), std::move(own)));
}

WorkerGroup::~WorkerGroup() {
  stop();
  join();
}

void WorkerGroup::start(std::shared_ptr<const Program> program, std::function<void(std::string)> finished) {
  state_->program.install(std::move(program));
  running_ = workers_.size();
  auto ended = [this, finished = std::move(finished)](std::string reason) {
    stop();  // one that can't go on takes the others with it
    std::unique_lock lock(mutex_);
    if (reason_.empty()) reason_ = std::move(reason);
    if (--running_) return;
    const std::string first = reason_;
    lock.unlock();
    finished(first);
  };
  for (const auto& worker : workers_) worker->start(ended);
}

void WorkerGroup::install(std::shared_ptr<const Program> program, std::function<void()> done) {
  state_->program.install(std::move(program));
  auto left = std::make_shared<std::atomic<size_t>>(workers_.size());
  for (const auto& worker : workers_)
    worker->post([left, done](Engine& engine) {
      engine.refresh();
      if (left->fetch_sub(1) == 1) done();
    });
}

void WorkerGroup::stop() {
  for (const auto& worker : workers_) worker->stop();
}

void WorkerGroup::join() {
  for (const auto& worker : workers_) worker->join();
}

std::vector<const Counters*> WorkerGroup::counters() const {
  std::vector<const Counters*> all;
  for (const auto& worker : workers_) all.push_back(&worker->counters());
  return all;
}

PortCounters WorkerGroup::port_counters(PortId port) const {
  PortCounters sum;
  for (const auto& worker : workers_) sum.add(worker->ports()[port]->counters());
  return sum;
}

}  // namespace weir
