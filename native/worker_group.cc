#include "worker_group.h"

namespace weir {

WorkerGroup::WorkerGroup(const EngineLimits& limits, std::vector<std::vector<std::shared_ptr<Port>>> ports)
    : state_(std::make_shared<EngineState>(limits)), ports_(std::move(ports)), former_(ports_.front().size()) {
  for (const auto& own : ports_) workers_.push_back(std::make_unique<Worker>(state_, uint32_t(workers_.size()), own));
}

WorkerGroup::~WorkerGroup() {
  stop();
  join();
}

Adoption WorkerGroup::adopt(std::shared_ptr<const Program> program, uint64_t now_ns, std::span<const uint32_t> tenants) {
  if (!state_->file) return {};
  state_->program.install(std::move(program));
  return workers_.front()->engine().adopt(now_ns, tenants);
}

void WorkerGroup::resume(std::shared_ptr<const Program> program, uint64_t now_ns, std::span<const uint32_t> tenants, std::function<void(std::string)> finished) {
  join();
  for (const auto& worker : workers_) worker->rearm();
  reason_.clear();
  if (state_->file) {
    for (const auto& worker : workers_) worker->engine().forget_streams(*program);
    adopt(program, now_ns, tenants);
  }
  start(std::move(program), std::move(finished));
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

void WorkerGroup::show(PortId port, bool on) {
  if (on) shown_.insert(port); else shown_.erase(port);
  for (size_t i = 0; i < workers_.size(); i++) workers_[i]->post([own = ports_[i][port], on](Engine&) { own->show(on); });
}

PortCounters WorkerGroup::worker_port_counters(size_t worker) const {
  PortCounters sum;
  for (const auto& port : ports_[worker])
    if (port) sum.add(port->counters());
  return sum;
}

PortCounters WorkerGroup::port_counters(PortId port) const {
  PortCounters sum = former_[port];
  for (const auto& own : ports_) sum.add(own[port]->counters());
  return sum;
}

void WorkerGroup::set_ports(PortId port, std::vector<std::shared_ptr<Port>> ports, std::function<void()> done) {
  if (port >= port_count()) {
    for (auto& own : ports_) own.resize(port + 1u);
    former_.resize(port + 1u);
  }
  if (has_port(port)) {
    former_[port] = port_counters(port);
    former_[port].open = true;
    former_[port].cuts = false;
  }
  auto left = std::make_shared<std::atomic<size_t>>(workers_.size());
  for (size_t i = 0; i < workers_.size(); i++) {
    ports_[i][port] = ports[i];
    Worker* worker = workers_[i].get();
    worker->post([worker, port, next = ports[i], shown = shown_.contains(port), left, done](Engine&) {
      if (shown && next) next->show(true);
      worker->set_port(port, next);
      if (left->fetch_sub(1) == 1) done();
    });
  }
}

}  // namespace weir
