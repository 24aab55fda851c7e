// AF_PACKET with a TPACKET_V3 receive ring and the virtio-net header (packet(7), Documentation/networking/packet_mmap.rst):
// frames come and go with their offload state, so nothing on the host has to be switched off.
#pragma once
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/counters.h"
#include "port/port.h"

namespace weir {

struct RingOptions {
  std::string interface;
  uint32_t megabytes = 32;    // what a burst may hold while the thread is not running
  bool stamped_only = false;  // take only UDP to the stamp's ports: the rest of an underlay never leaves the kernel
  // One of several ports on this interface, each of which gets its share of the streams (PACKET_FANOUT_HASH: both directions
  // of a stream to the same one). The first has no group yet, the others give what its fanout_group() says.
  bool fanout = false;
  std::optional<uint16_t> fanout_group;
};

class RingPort final : public Port {
 public:
  // Needs CAP_NET_RAW. On failure: a sentence that names the interface, the call and the reason.
  static std::variant<std::unique_ptr<RingPort>, std::string> open(const RingOptions& options);
  ~RingPort() override;

  int descriptor() const override { return fd_; }
  uint32_t receive(PortId id, Receiver& receiver) override;
  void release() override;
  void send(const OutFrame& frame) override;
  void flush() override;
  PortCounters counters() const override;
  std::string failure() const override;
  bool carries(uint8_t gso) const override { return !(refused_.load(std::memory_order_relaxed) >> gso & 1); }
  uint16_t fanout_group() const { return fanout_group_; }

 private:
  // The kernel closes a block a millisecond after its first frame, however little is in it: many small blocks are what lets the
  // thread be away for long at a low rate, too. One holds seven super-frames of 64 KiB.
  static constexpr uint32_t kBlockBytes = 1 << 19;
  static constexpr uint32_t kReserve = 192;  // headroom asked of the kernel, for outer headers and stamp
  static constexpr uint32_t kBatch = 256, kPieces = 16 * kBatch;

  RingPort() = default;
  std::string set_up(const RingOptions& options);
  std::string join_fanout(const RingOptions& options);
  Frame frame_at(uint8_t* header);
  std::string open_plain(int interface_index);
  bool send_cut(uint32_t queued);

  int fd_ = -1;
  // For batches without any super-frame: the kernel sends those with a tenth less work where it expects no virtio-net header.
  int plain_fd_ = -1;
  std::string interface_;
  uint8_t* map_ = nullptr;
  size_t map_bytes_ = 0;
  uint32_t blocks_ = 0, block_ = 0;
  tpacket_block_desc* open_block_ = nullptr;  // handed out by receive(), given back by release()

  std::vector<mmsghdr> messages_;
  std::vector<iovec> pieces_;
  std::vector<Offload> offloads_;
  uint32_t queued_ = 0, queued_pieces_ = 0;
  bool queued_offload_ = false;  // one of them needs its virtio-net header
  std::atomic<bool> bypass_{false};   // frames go to the device past its queueing discipline
  std::atomic<uint32_t> refused_{0};  // a bit for each Offload::kGso… that the kernel did not take
  uint16_t fanout_group_ = 0;

  Counter rx_frames_, rx_bytes_, tx_frames_, tx_bytes_, tx_errors_;
  mutable Counter rx_dropped_;
};

}  // namespace weir
