// The near end of requests and connections: how long an answer takes, or how many connections a second can be had.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "run_time.h"

using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "requester latency ADDRESS PORT SECONDS\n"
    "       requester connect ADDRESS FIRST_PORT PORTS AT_ONCE SECONDS\n"
    "latency: one TCP connection, one byte there and back at a time. connect: connections opened, one byte there and back,\n"
    "closed (by reset, so that no port is kept waiting), AT_ONCE (1 to 256) of them at a time. The other end is `responder`.";

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "requester: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

sockaddr_in address_of(const char* host, uint32_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || port < 1 || port > 65535) usage(kUsage);
  return address;
}

int open_socket(int flags) {
  const int fd = socket(AF_INET, SOCK_STREAM | flags, 0), one = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

int measure_latency(char** argv) {
  const sockaddr_in address = address_of(argv[2], uint32_t(number_argument(argv[3], kUsage)));
  RunTime time(number_argument(argv[4], kUsage));
  const int fd = open_socket(0);
  const timeval patience{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address)) fail("connect");
  std::vector<double> micros;
  micros.reserve(1 << 22);
  while (!time.over()) {
    char byte = 'x';
    const double before = seconds_now();
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) {
      if (errno == EINTR) break;
      fail("request");
    }
    micros.push_back((seconds_now() - before) * 1e6);
  }
  if (micros.empty()) return 1;
  std::sort(micros.begin(), micros.end());
  auto quantile = [&](double q) { return micros[size_t(q * double(micros.size() - 1))]; };
  Report("requester").count("requests", micros.size()).number("p50_us", quantile(0.5)).number("p99_us", quantile(0.99)).number("min_us", micros.front()).number("max_us", micros.back()).print(time);
  return 0;
}

// Connections under way, each in one of `ports` slots of the address.
class Connections {
 public:
  Connections(const char* host, uint32_t first, uint32_t ports) : host_(host), first_(first), ports_(ports), events_(epoll_create1(0)) {}

  void open() {
    const sockaddr_in address = address_of(host_, first_ + opened_++ % ports_);
    const int fd = open_socket(SOCK_NONBLOCK);
    const linger reset{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) && errno != EINPROGRESS) {
      failed++;
      close(fd);
      return;
    }
    epoll_event event{EPOLLOUT, {.fd = fd}};
    epoll_ctl(events_, EPOLL_CTL_ADD, fd, &event);
    under_way++;
  }

  void wait() {
    std::array<epoll_event, 256> ready;
    const int n = epoll_wait(events_, ready.data(), int(ready.size()), 20);
    for (int i = 0; i < n; i++) advance(ready[size_t(i)]);
  }

  uint64_t done = 0, failed = 0;
  uint32_t under_way = 0;

 private:
  void advance(const epoll_event& event) {
    const int fd = event.data.fd;
    char byte = 'x';
    if (event.events & EPOLLOUT) {  // connected, or refused
      if (write(fd, &byte, 1) == 1) {
        epoll_event next{EPOLLIN, {.fd = fd}};
        epoll_ctl(events_, EPOLL_CTL_MOD, fd, &next);
        return;
      }
      failed++;
    } else {
      (read(fd, &byte, 1) == 1 ? done : failed)++;
    }
    close(fd);
    under_way--;
  }

  const char* host_;
  uint32_t first_, ports_, opened_ = 0;
  int events_;
};

int measure_connections(char** argv) {
  const uint32_t first = uint32_t(number_argument(argv[3], kUsage)), ports = uint32_t(number_argument(argv[4], kUsage));
  const uint32_t at_once = uint32_t(number_argument(argv[5], kUsage));
  if (ports < 1 || ports > 64 || at_once < 1 || at_once > 256) usage(kUsage);
  RunTime time(number_argument(argv[6], kUsage));
  Connections connections(argv[2], first, ports);
  while (!time.over()) {
    for (uint32_t tries = 0; connections.under_way < at_once && tries < at_once; tries++) connections.open();
    connections.wait();
  }
  Report("requester").count("connections", connections.done).count("failed", connections.failed).number("per_second", double(connections.done) / time.elapsed()).print(time);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "latency" && argc == 5) return measure_latency(argv);
  if (mode == "connect" && argc == 7) return measure_connections(argv);
  usage(kUsage);
}
