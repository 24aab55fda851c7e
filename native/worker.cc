#include "worker.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace weir {
namespace {

constexpr size_t kFlushBytes = 512 * 1024;  // of headers waiting; far below what a batch may hold
constexpr uint64_t kLookNs = 50'000'000;  // how often ports are asked whether their interface is gone
constexpr uint64_t kIdleWaitNs = 20'000'000;  // bounds how late idle streams expire when nothing comes in

uint64_t read_clock(clockid_t clock) {
  timespec t;
  if (clock_gettime(clock, &t)) return 0;
  return uint64_t(t.tv_sec) * 1'000'000'000 + uint64_t(t.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }

Worker::Worker(std::shared_ptr<EngineState> state, uint32_t number, std::vector<std::shared_ptr<Port>> ports)
    : engine_(std::move(state), number), ports_(std::move(ports)), first_(number == 0), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

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
      tasks_.clear();
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

void Worker::rearm() {
  std::lock_guard lock(tasks_mutex_);
  ended_ = false;
  stopping_.store(false, std::memory_order_relaxed);
}

uint64_t Worker::cpu_ns() const {
  clockid_t clock;
  if (!thread_.joinable() || pthread_getcpuclockid(const_cast<std::thread&>(thread_).native_handle(), &clock)) return 0;
  return read_clock(clock);
}

void Worker::receive(PortId port, std::span<Frame> frames) {
  if (++unsampled_ < kSampled) {
    engine_.process(now_ns_, port, frames, *this);
  } else {
    unsampled_ = 0;
    const uint64_t begun = read_clock(CLOCK_MONOTONIC);
    engine_.process(now_ns_, port, frames, *this);
    group_latency_.add(read_clock(CLOCK_MONOTONIC) - begun);
  }
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

void Worker::set_port(PortId id, std::shared_ptr<Port> port) {
  if (id >= ports_.size()) ports_.resize(id + 1u);
  ports_[id] = std::move(port);
}

void Worker::wait() {
  poll_.clear();
  poll_.push_back({wake_, POLLIN, 0});
  for (const auto& port : ports_)
    if (port)
      for (const int fd : port->descriptors()) poll_.push_back({fd, POLLIN, 0});
  uint64_t wait_ns = kIdleWaitNs;
  if (first_) {
    const uint64_t due = engine_.probes().due(), now = monotonic_ns();
    wait_ns = std::min(wait_ns, due > now ? due - now : 0);
  }
  const timespec timeout{0, long(wait_ns)};
  ppoll(poll_.data(), poll_.size(), &timeout, nullptr);
  if (poll_[0].revents) {
    eventfd_t value;
    eventfd_read(wake_, &value);
  }
}

void Worker::probe() {
  if (first_ && engine_.probe(now_ns_, *this)) flush();
  if (probe_news_ && engine_.probes().take_news()) probe_news_();
}

std::string Worker::run() {
  Moderation::prepare_thread();
  while (!stopping_.load(std::memory_order_acquire)) {
    turns_++;
    run_tasks();
    uint32_t frames = 0;
    now_ns_ = read_clock(CLOCK_MONOTONIC);
    for (size_t i = 0; i < ports_.size(); i++) {
      if (!ports_[i]) continue;
      const uint32_t n = ports_[i]->receive(PortId(i), *this);
      if (!n) continue;
      flush();
      // A clock that was set back in between says nothing.
      if (const uint64_t begun = ports_[i]->oldest_ns()) {
        const uint64_t now = read_clock(CLOCK_REALTIME);
        if (now > begun) transit_latency_.add(now - begun);
      }
      ports_[i]->release();
      frames += n;
    }
    const bool behind = engine_.tick(now_ns_);
    if (now_ns_ - looked_ns_ >= kLookNs) {
      looked_ns_ = now_ns_;
      for (const auto& port : ports_)
        if (port) port->look();
    }
    moderation_.add(frames);
    probe();
    if (frames || behind) continue;
    if (moderation_.nap(now_ns_)) continue;
    engine_.pause();
    wait();
  }
  return {};
}

}  // namespace weir
