#include "worker.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

namespace weir {
namespace {

constexpr size_t kFlushBytes = 512 * 1024;  // of headers waiting; far below what a batch may hold
constexpr int kIdleWaitMs = 20;             // bounds how late idle streams expire when nothing comes in

uint64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1'000'000'000 + uint64_t(t.tv_nsec);
}

}  // namespace

Worker::Worker(std::shared_ptr<EngineState> state, uint32_t number, std::vector<std::unique_ptr<Port>> ports)
    : engine_(std::move(state), number), ports_(std::move(ports)), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Worker::~Worker() {
  stop();
  join();
  if (wake_ >= 0) close(wake_);
}

void Worker::start(std::function<void(std::string)> finished) {
  thread_ = std::thread([this, finished = std::move(finished)] {
    std::string reason = run();
    {
      std::lock_guard lock(tasks_mutex_);
      ended_ = true;
      for (const Task& task : tasks_) task(engine_);
      engine_.pause();
    }
    finished(std::move(reason));
  });
}

void Worker::post(Task task) {
  {
    std::lock_guard lock(tasks_mutex_);
    if (ended_) return task(engine_);
    tasks_.push_back(std::move(task));
  }
  has_tasks_.store(true, std::memory_order_release);
  eventfd_write(wake_, 1);
}

void Worker::stop() {
  stopping_.store(true, std::memory_order_release);
  if (wake_ >= 0) eventfd_write(wake_, 1);
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::receive(PortId port, std::span<Frame> frames) {
  engine_.process(now_ns_, port, frames, *this);
  if (arena_.in_use() > kFlushBytes) flush();
}

void Worker::emit(const OutFrame& frame) {
  if (frame.port < ports_.size() && ports_[frame.port]) ports_[frame.port]->send(frame);
}

void Worker::flush() {
  for (const auto& port : ports_)
    if (port) port->flush();
  arena_.reset();
}

void Worker::run_tasks() {
  if (!has_tasks_.exchange(false, std::memory_order_acquire)) return;
  std::vector<Task> tasks;
  {
    std::lock_guard lock(tasks_mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) task(engine_);
}

std::string Worker::port_failure() const {
  for (const auto& port : ports_)
    if (port)
      if (std::string reason = port->failure(); !reason.empty()) return reason;
  return {};
}

void Worker::wait() {
  poll_.clear();
  poll_.push_back({wake_, POLLIN, 0});
  for (const auto& port : ports_)
    if (port && port->descriptor() >= 0) poll_.push_back({port->descriptor(), POLLIN, 0});
  poll(poll_.data(), poll_.size(), kIdleWaitMs);
  if (poll_[0].revents) {
    eventfd_t value;
    eventfd_read(wake_, &value);
  }
}

std::string Worker::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    run_tasks();
    uint32_t frames = 0;
    now_ns_ = monotonic_ns();
    for (size_t i = 0; i < ports_.size(); i++) {
      if (!ports_[i]) continue;
      const uint32_t n = ports_[i]->receive(PortId(i), *this);
      if (!n) continue;
      flush();
      ports_[i]->release();
      frames += n;
    }
    const bool behind = engine_.tick(now_ns_);
    if (frames || behind) continue;
    if (std::string reason = port_failure(); !reason.empty()) return reason;
    engine_.pause();
    wait();
  }
  return {};
}

}  // namespace weir
