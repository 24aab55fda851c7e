#include "port/udp_sink.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace weir {

std::variant<UdpSink, int> UdpSink::hold(const Address& address, uint16_t port) {
  const bool ipv4 = address.is_ipv4();
  const int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  UdpSink sink(fd);
  sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog program{1, nothing};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) return errno;
  // Whoever does not say that it takes batches has the kernel cut each into its datagrams first, only to drop every one.
  constexpr int kUdpGro = 104, one = 1;
  setsockopt(fd, IPPROTO_UDP, kUdpGro, &one, sizeof one);
  sockaddr_in6 v6{};
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(port);
  std::memcpy(&v4.sin_addr, address.ipv4(), 4);
  std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
  if (!ipv4) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (ipv4 ? bind(fd, reinterpret_cast<sockaddr*>(&v4), sizeof v4) : bind(fd, reinterpret_cast<sockaddr*>(&v6), sizeof v6)) return errno;
  return sink;
}

UdpSink::~UdpSink() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace weir
