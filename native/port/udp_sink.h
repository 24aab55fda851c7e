// Holds a UDP port and drops what comes for it, in the kernel: the packets themselves are taken from a ring, and without a
// holder of the port the kernel would answer each with ICMP "port unreachable".
#pragma once
#include <cstdint>
#include <string>
#include <variant>

#include "engine/address.h"

namespace weir {

class UdpSink {
 public:
  // On failure the errno value.
  static std::variant<UdpSink, int> hold(const Address& address, uint16_t port);
  UdpSink(UdpSink&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  UdpSink& operator=(UdpSink&&) = delete;
  // One that another process held.
  static UdpSink adopt(int fd) { return UdpSink(fd); }
  ~UdpSink();
  int descriptor() const { return fd_; }

 private:
  explicit UdpSink(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace weir
