// Where a packet of a mesh chain leaves from the host of its last instance: the inner IP packet goes to this host's kernel, to be
// routed as it is. For the node's thread.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>

#include "engine/counters.h"

namespace weir {

struct MeshMap;

class DirectExit {
 public:
  // Needs CAP_NET_RAW. Where a socket can't be had (no IPv6 in the kernel), what it would send counts as exit_failed.
  // `dropped`: by NodeDrop.
  DirectExit(Traffic& exited, std::span<Counter> dropped);
  ~DirectExit();
  DirectExit(const DirectExit&) = delete;

  // Queues what is behind a stamp, with its TTL one less; it must last until flush(). False for what this host's kernel can't pass on
  // as weir would: anything but an untagged IP packet from one host to another that has a TTL left and is nothing to the underlay.
  bool take(uint8_t* inner, uint32_t length, bool ethernet, const MeshMap& map);
  void flush();

 private:
  static constexpr uint32_t kBatch = 64;
  union Destination {
    sockaddr_in v4;
    sockaddr_in6 v6;
  };
  struct Queue {
    int fd = -1;
    uint32_t queued = 0;
    std::array<mmsghdr, kBatch> messages;
    std::array<iovec, kBatch> pieces;
    std::array<Destination, kBatch> to;
  };
  void flush(Queue& queue);
  bool renew(Queue& queue);

  Traffic& exited_;
  std::span<Counter> dropped_;
  Queue v4_, v6_;
};

}  // namespace weir
