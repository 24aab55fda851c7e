// How long a bare program runs, and what it says of itself at the end: one line of JSON.
#pragma once
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace weir::bench {

inline double seconds_now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// CPU time of the calling thread: what somebody else's work on this core does not count into.
inline double cpu_seconds_now() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// Until SIGTERM or SIGINT, or for so many seconds (0: for ever).
class RunTime {
 public:
  explicit RunTime(double seconds) : start_(seconds_now()), end_(seconds > 0 ? start_ + seconds : 0) {
    struct sigaction action {};
    action.sa_handler = [](int) { stopped_ = 1; };
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
  }
  bool over() const { return stopped_ || (end_ > 0 && seconds_now() >= end_); }
  double elapsed() const { return seconds_now() - start_; }

 private:
  static inline volatile sig_atomic_t stopped_ = 0;
  double start_, end_;
};

class Report {
 public:
  explicit Report(const char* program) { line_ = std::string("{\"program\":\"") + program + '"'; }
  Report& count(const char* name, uint64_t value) { return raw(name, std::to_string(value)); }
  Report& number(const char* name, double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.9g", value);
    return raw(name, text);
  }
  // With the CPU time of this process, kernel included.
  void print(const RunTime& time) {
    rusage use{};
    getrusage(RUSAGE_SELF, &use);
    auto seconds = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) * 1e-6; };
    number("seconds", time.elapsed()).number("user_seconds", seconds(use.ru_utime)).number("system_seconds", seconds(use.ru_stime));
    std::printf("%s}\n", line_.c_str());
    std::fflush(stdout);
  }

 private:
  Report& raw(const char* name, const std::string& value) {
    line_ += std::string(",\"") + name + "\":" + value;
    return *this;
  }
  std::string line_;
};

// Says that the program is ready to take frames: whoever started it waits for this line.
inline void say_ready() {
  std::printf("ready\n");
  std::fflush(stdout);
}

[[noreturn]] inline void usage(const char* text) {
  std::fprintf(stderr, "usage: %s\n", text);
  std::exit(2);
}

// A number from the command line, or usage.
inline double number_argument(const char* text, const char* usage_text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end || value < 0) usage(usage_text);
  return value;
}

}  // namespace weir::bench
