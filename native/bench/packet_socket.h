// A packet socket with a TPACKET_V3 receive ring (packet(7), Documentation/networking/packet_mmap.rst) and batched sends:
// what every bare program here is made of. Problems at the start end the program with a sentence.
#pragma once
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <span>

#include "engine/frame.h"

namespace weir::bench {

struct RingShape {
  uint32_t block_bytes, blocks, frame_bytes;
};
// Frames of an MTU; and super-frames of 64 KiB, which need blocks that hold them.
inline constexpr RingShape kSmallFrames{1 << 18, 64, 2048}, kSuperFrames{1 << 20, 32, 1 << 17}, kSendOnly{0, 0, 0};

struct ReceivedFrame {
  Offload* offload;  // right before the frame; null without the virtio-net header
  uint8_t* bytes;
  uint32_t length;
};

class PacketSocket {
 public:
  // `bypass`: past the queue discipline. What the kernel has to cut in software can't go that way (dev_direct_xmit drops it).
  PacketSocket(const char* interface, RingShape ring, bool virtio_header, bool bypass = true) : interface_(interface), ring_(ring), virtio_header_(virtio_header) {
    const unsigned index = if_nametoindex(interface);
    if (!index) fail("if_nametoindex");
    // Protocol 0 takes nothing in until bind() names interface and protocol together.
    fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd_ < 0) fail("socket");
    if (virtio_header) set(PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
    if (bypass) set(PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
    if (ring.blocks) open_ring();
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = ring.blocks ? htons(ETH_P_ALL) : 0;
    address.sll_ifindex = int(index);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address)) fail("bind");
    if (ring.blocks) {
      packet_mreq all{};
      all.mr_ifindex = int(index);
      all.mr_type = PACKET_MR_PROMISC;
      if (setsockopt(fd_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all)) fail("PACKET_ADD_MEMBERSHIP");
    }
  }
  ~PacketSocket() {
    if (map_) munmap(map_, size_t(ring_.block_bytes) * ring_.blocks);
    if (fd_ >= 0) close(fd_);
  }
  PacketSocket(const PacketSocket&) = delete;

  int fd() const { return fd_; }

  // Calls handle(ReceivedFrame) for every frame of every block that is ready, and flush() before a block goes back to the kernel.
  template <typename Handle, typename Flush>
  bool receive(Handle&& handle, Flush&& flush) {
    bool any = false;
    for (;;) {
      auto* block = reinterpret_cast<tpacket_block_desc*>(map_ + size_t(block_) * ring_.block_bytes);
      if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) return any;
      any = true;
      auto* at = reinterpret_cast<uint8_t*>(block) + block->hdr.bh1.offset_to_first_pkt;
      for (uint32_t n = block->hdr.bh1.num_pkts; n; n--) {
        const auto* header = reinterpret_cast<const tpacket3_hdr*>(at);
        const uint32_t next = header->tp_next_offset;
        uint8_t* bytes = at + header->tp_mac;
        received++;
        if (header->tp_snaplen < header->tp_len) truncated++;
        handle(ReceivedFrame{virtio_header_ ? reinterpret_cast<Offload*>(bytes - sizeof(Offload)) : nullptr, bytes, header->tp_snaplen});
        at += next;
      }
      flush();
      __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
      block_ = (block_ + 1) % ring_.blocks;
    }
  }

  // One frame from pieces, at once.
  void send(std::span<const iovec> pieces) {
    if (writev(fd_, pieces.data(), int(pieces.size())) < 0) send_errors++;
    else sent++;
  }

  // Frames that the kernel had no room for in the ring; it zeroes its count at each reading.
  uint64_t dropped() {
    tpacket_stats_v3 stats{};
    socklen_t size = sizeof stats;
    if (getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0) dropped_ += stats.tp_drops;
    return dropped_;
  }

  uint64_t received = 0, truncated = 0, sent = 0, send_errors = 0;

 private:
  void open_ring() {
    set(PACKET_VERSION, TPACKET_V3, "PACKET_VERSION");
    set(PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
    tpacket_req3 request{};
    request.tp_block_size = ring_.block_bytes;
    request.tp_block_nr = ring_.blocks;
    request.tp_frame_size = ring_.frame_bytes;
    request.tp_frame_nr = ring_.block_bytes / ring_.frame_bytes * ring_.blocks;
    request.tp_retire_blk_tov = 1;  // ms: the shortest time after which a block that is not full is handed out
    if (setsockopt(fd_, SOL_PACKET, PACKET_RX_RING, &request, sizeof request)) fail("PACKET_RX_RING");
    void* map = mmap(nullptr, size_t(ring_.block_bytes) * ring_.blocks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, 0);
    if (map == MAP_FAILED) fail("mmap");
    map_ = static_cast<uint8_t*>(map);
  }
  void set(int option, int value, const char* name) {
    if (setsockopt(fd_, SOL_PACKET, option, &value, sizeof value)) fail(name);
  }
  [[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "interface %s: %s: %s\n", interface_, what, std::strerror(errno));
    std::exit(1);
  }

  const char* interface_;
  RingShape ring_;
  bool virtio_header_;
  int fd_ = -1;
  uint8_t* map_ = nullptr;
  uint32_t block_ = 0;
  uint64_t dropped_ = 0;
};

// Frames of one piece each, sent many at a time.
class SendBatch {
 public:
  static constexpr uint32_t kFrames = 64;

  explicit SendBatch(PacketSocket& socket) : socket_(socket) {
    for (uint32_t i = 0; i < kFrames; i++) {
      messages_[i].msg_hdr.msg_iov = &pieces_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  uint32_t size() const { return queued_; }
  void add(void* bytes, size_t length) {
    pieces_[queued_] = {bytes, length};
    if (++queued_ == kFrames) flush();
  }
  void flush() {
    for (uint32_t at = 0; at < queued_;) {
      const int n = sendmmsg(socket_.fd(), &messages_[at], queued_ - at, 0);
      if (n > 0) {
        socket_.sent += uint64_t(n);
        at += uint32_t(n);
      } else {  // this frame is lost, the next may do better
        socket_.send_errors++;
        at++;
      }
    }
    queued_ = 0;
  }

 private:
  PacketSocket& socket_;
  std::array<mmsghdr, kFrames> messages_{};
  std::array<iovec, kFrames> pieces_{};
  uint32_t queued_ = 0;
};

// Sleeps until one of them has frames, or a little while.
inline void wait_for(std::initializer_list<const PacketSocket*> sockets) {
  std::array<pollfd, 4> list{};
  nfds_t n = 0;
  for (const PacketSocket* socket : sockets) list[n++] = {socket->fd(), POLLIN, 0};
  poll(list.data(), n, 5);
}

}  // namespace weir::bench
