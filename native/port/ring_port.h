// AF_PACKET with receive rings and the virtio-net header (packet(7), Documentation/networking/packet_mmap.rst): frames come and go
// with their offload state, so nothing on the host has to be switched off.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/counters.h"
#include "port/packet_ring.h"
#include "port/port.h"

namespace weir {

// Three rings an interface, by the length of frames, since slots are of one size.
inline constexpr uint32_t kRings = 3;

struct RingOptions {
  std::string interface;
  uint32_t megabytes = 32;    // what a burst may hold while the thread is not running
  bool stamped_only = false;  // take only UDP to the stamp's ports: the rest of an underlay never leaves the kernel
  bool fragments = false;     // of those: also fragments of UDP, whatever ports their first one has
  // One of several ports on this interface, each of which gets its share of the streams (PACKET_FANOUT_HASH: both directions
  // of a stream to the same one). The first has no group yet, the others give what its fanout_groups() says.
  bool fanout = false;
  std::optional<std::array<uint16_t, kRings>> fanout_groups;
};

// A port as another process has it: its sockets go on, with every frame that waits in them, in whose hands they may be.
struct RingPortState {
  std::array<RingState, kRings> rings;
  bool bypass = false;
  uint32_t refused = 0;
};

class RingPort final : public Port {
 public:
  // Needs CAP_NET_RAW. On failure: a sentence that names the interface, the call and the reason.
  static std::variant<std::unique_ptr<RingPort>, std::string> open(const RingOptions& options);
  // Takes the descriptors, also on failure. Reads nothing until continue_at().
  // `options`: interface, and what it takes; the process before may have taken less.
  static std::variant<std::unique_ptr<RingPort>, std::string> adopt(const RingOptions& options, const RingPortState& state);
  // For who goes on with it: heads are right once its thread has ended.
  RingPortState state() const;
  void continue_at(const std::array<uint32_t, kRings>& heads);
  ~RingPort() override;

  std::span<const int> descriptors() const override { return open_.load(std::memory_order_relaxed) ? std::span<const int>(descriptors_) : std::span<const int>(); }
  uint32_t receive(PortId id, Receiver& receiver) override;
  void release() override;
  void send(const OutFrame& frame) override;
  void flush() override;
  PortCounters counters() const override;
  void look() override;
  std::string failure() const override;
  bool carries(uint8_t gso) const override { return !(refused_.load(std::memory_order_relaxed) >> gso & 1); }
  std::array<uint16_t, kRings> fanout_groups() const;
  uint64_t oldest_ns() const override { return oldest_ns_; }
  void show(bool on) override;

 private:
  // Frames that one receive() takes from a ring: of super-frames fewer, since their slots are few and the kernel wants them back.
  static constexpr std::array<uint32_t, kRings> kMost = {256, 64, 16};
  static constexpr uint32_t kBatch = 256, kPieces = 16 * kBatch;

  RingPort() = default;
  std::string set_up(const RingOptions& options);
  std::string take_up(const RingOptions& options, const RingPortState& state);
  uint32_t hand_on(PortId id, Receiver& receiver, const std::array<uint32_t, kRings>& first, const std::array<uint32_t, kRings>& seen);
  std::string open_plain(int interface_index);
  bool send_cut(uint32_t queued);

  std::array<PacketRing, kRings> rings_;  // of short frames first
  std::array<int, kRings> descriptors_{};
  std::array<uint32_t, kRings> taken_{};  // handed out by receive(), given back by release()
  int fd_ = -1;                           // one of the rings', which sends too
  // For batches without any super-frame: the kernel sends those with a tenth less work where it expects no virtio-net header.
  int plain_fd_ = -1;
  bool doubtful_ = false;  // its interface was down, or a frame could not be sent
  std::string interface_;
  uint32_t index_ = 0;
  std::atomic<bool> open_{true};
  uint64_t oldest_ns_ = 0;  // when the first frame of the last receive() came
  bool shown_ = false;

  std::vector<mmsghdr> messages_;
  std::vector<iovec> pieces_;
  std::vector<Offload> offloads_;
  uint32_t queued_ = 0, queued_pieces_ = 0;
  bool queued_offload_ = false;  // one of them needs its virtio-net header
  std::atomic<bool> bypass_{false};   // frames go to the device past its queueing discipline
  std::atomic<uint32_t> refused_{0};  // a bit for each Offload::kGso… that the kernel did not take

  Counter rx_frames_, rx_bytes_, tx_frames_, tx_bytes_, tx_errors_;
  mutable Counter rx_dropped_;
};

}  // namespace weir
