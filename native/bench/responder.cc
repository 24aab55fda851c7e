// The far end of requests and connections: answers every byte with itself.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "run_time.h"

using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "responder FIRST_PORT PORTS SECONDS\n"
    "Accepts TCP connections on PORTS ports (1 to 64) and sends back what it receives. SECONDS 0: until SIGTERM.";

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "responder: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int listen_on(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = __builtin_bswap16(port);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // accepted sockets inherit it
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) || listen(fd, 4096)) fail("listen");
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) usage(kUsage);
  const uint32_t first = uint32_t(number_argument(argv[1], kUsage)), ports = uint32_t(number_argument(argv[2], kUsage));
  if (first < 1 || ports < 1 || ports > 64 || first + ports > 65536) usage(kUsage);
  RunTime time(number_argument(argv[3], kUsage));
  const int events = epoll_create1(0);
  int last_listener = 0;
  for (uint32_t i = 0; i < ports; i++) {
    const int fd = last_listener = listen_on(uint16_t(first + i));
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(events, EPOLL_CTL_ADD, fd, &event);
  }
  say_ready();
  uint64_t connections = 0, answers = 0;
  while (!time.over()) {
    std::array<epoll_event, 256> ready;
    const int n = epoll_wait(events, ready.data(), int(ready.size()), 20);
    for (int i = 0; i < n; i++) {
      const int fd = ready[size_t(i)].data.fd;
      if (fd <= last_listener) {
        for (int taken; (taken = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
          connections++;
          epoll_event event{EPOLLIN, {.fd = taken}};
          epoll_ctl(events, EPOLL_CTL_ADD, taken, &event);
        }
        continue;
      }
      char bytes[4096];
      const ssize_t length = read(fd, bytes, sizeof bytes);
      if (length > 0 && write(fd, bytes, size_t(length)) == length) answers++;
      else if (length >= 0 || errno != EAGAIN) close(fd);
    }
  }
  Report("responder").count("connections", connections).count("answers", answers).print(time);
}
