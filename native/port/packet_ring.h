// One AF_PACKET receive ring, TPACKET_V2 (packet(7), Documentation/networking/packet_mmap.rst): slots of one size, each handed over
// the moment its frame is in. TPACKET_V3 packs frames of all sizes, but hands out blocks, and a lone packet waits a millisecond.
#pragma once
#include <linux/filter.h>
#include <linux/if_packet.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "engine/frame.h"

namespace weir {

// Frames of these lengths (Ethernet header included) go into this ring.
struct RingShape {
  uint32_t shortest, longest;
  uint32_t slot_bytes, slots;
};

// Who else takes frames of the interface (PACKET_FANOUT; each frame goes to one of a group).
enum class Sharing : uint8_t {
  alone,
  by_stream,  // rings of the same lengths, of several threads: a stream's frames go to one of them
  by_length,  // one thread's rings: the kernel's packet handler runs once for a frame, not once for each ring
};

// A ring as another process can go on with it.
struct RingState {
  int descriptor = -1;
  uint32_t slot_bytes = 0, slots = 0;
  uint32_t head = 0;  // the slot to be read next
  uint16_t group = 0;
};

class PacketRing {
 public:
  static constexpr uint32_t kReserve = 192;  // headroom asked of the kernel, for outer headers and stamp
  static constexpr uint32_t kBlockBytes = 1 << 19;
  // What a slot has no room for besides the frame: tpacket2_hdr, sockaddr_ll, headroom, virtio-net header, alignment.
  static constexpr uint32_t kOverhead = 288;

  struct Place {
    const char* interface;
    unsigned index;
    std::span<const sock_filter> filter;  // beside the frame's length; empty: everything
    Sharing sharing = Sharing::alone;
    std::optional<uint16_t> group;  // none yet: this ring is the first of its group
  };

  PacketRing() = default;
  PacketRing(const PacketRing&) = delete;
  ~PacketRing();
  // On failure: what failed and why, without the interface's name.
  std::string open(const Place& place, const RingShape& shape);

  // Goes on with another process's ring: takes the descriptor, also on failure. Reads nothing until continue_at().
  std::string adopt(unsigned interface_index, const RingState& state);
  // Frames of these lengths that the filter takes, from now on.
  std::string take_only(const RingShape& shape, std::span<const sock_filter> filter);
  // Tells the group that this ring is the first of, by length, which of its rings a frame is for: `longest` of each but the last, in the
  // order in which they join.
  std::string divide(std::span<const uint32_t> longest);
  RingState state() const { return {fd_, slot_bytes_, slots_, head_, group_}; }
  void continue_at(uint32_t head) { head_ = head % slots_; }

  int descriptor() const { return fd_; }
  bool bypasses() const { return bypass_; }
  uint16_t fanout_group() const { return group_; }

  // How many frames wait one after another, `known` of which were there before; at most `most`.
  uint32_t ready(uint32_t known, uint32_t most) const {
    uint32_t n = known;
    while (n < most && (__atomic_load_n(&header(n)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) n++;
    return n;
  }
  // When the i-th waiting frame came, in ns of the wall clock.
  uint64_t came(uint32_t i) const {
    const tpacket2_hdr* h = header(i);
    return h->tp_sec * 1'000'000'000ull + h->tp_nsec;
  }
  void prefetch(uint32_t i) const {
    const auto* h = reinterpret_cast<const uint8_t*>(header(i));
    __builtin_prefetch(h);
    __builtin_prefetch(h + kFrameAt);
  }
  // The i-th waiting frame, with its VLAN tag back in it. False: one that we sent (older kernels give a fanout group those, too).
  bool frame(uint32_t i, Frame& frame) const;
  // Gives the first n waiting frames' slots back to the kernel.
  void release(uint32_t n);
  // Frames that found no free slot since the last call.
  uint64_t dropped() const;

 private:
  static constexpr uint32_t kFrameAt = 256;  // near enough: the frame begins there or some bytes after

  tpacket2_hdr* header(uint32_t i) const {
    uint32_t slot = head_ + i;
    if (slot >= slots_) slot -= slots_;
    return reinterpret_cast<tpacket2_hdr*>(map_ + size_t(slot / slots_a_block_) * kBlockBytes + size_t(slot % slots_a_block_) * slot_bytes_);
  }
  std::string map_blocks(uint32_t blocks);
  std::string filter_and_join(const Place& place, const RingShape& shape);

  int fd_ = -1;
  uint8_t* map_ = nullptr;
  size_t map_bytes_ = 0;
  uint32_t slot_bytes_ = 0, slots_ = 0, slots_a_block_ = 1, head_ = 0;
  bool bypass_ = false;
  uint16_t group_ = 0;
};

}  // namespace weir
