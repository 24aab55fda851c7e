// Packets on their way to a service function in JavaScript and back. They lie in slabs: memory that the node's thread fills, the
// function's thread reads and answers in, and the node's thread sends from. What a function could spoil (outer headers, stamps,
// where packets begin) stays on this side.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "node/stamped_datagram.h"

namespace weir {

// What became of a packet, as the function's side writes it. Zero is what is there before it has answered.
enum class FunctionVerdict : uint8_t { none, forward, drop, replace };

struct FunctionPacket {
  DatagramView view;
  uint32_t at = 0, length = 0;              // the inner packet in Slab::bytes()
  uint32_t outer_at = 0, outer_length = 0;  // the outer headers and stamp it came behind, in Slab::outer
  uint32_t new_at = 0, new_length = 0;      // what replaces it, in Slab::replaced
  uint32_t cut_to = 0;                      // it came in fragments, and goes back in such as have so many bytes; 0: whole
};

class Slab {
 public:
  static constexpr uint32_t kMostPackets = 256, kBytes = 1 << 18;
  // A packet as the function's side finds it.
  struct Row {
    uint32_t at, length, code, path, kind;  // path: SPI << 8 | SI
  };
  static constexpr uint32_t kGeneve = 1, kEthernet = 2;  // bits of `kind`
  static_assert(sizeof(Row) == 20);
  // The memory both sides see: rows, then verdicts, then packets.
  static constexpr uint32_t kVerdictsAt = kMostPackets * sizeof(Row), kBytesAt = kVerdictsAt + kMostPackets, kMemory = kBytesAt + kBytes;

  Slab();
  uint8_t* memory() { return memory_.get(); }
  uint8_t* bytes() { return memory_.get() + kBytesAt; }
  const std::vector<FunctionPacket>& packets() const { return packets_; }
  bool has_room(uint32_t packets, uint32_t bytes) const { return packets_.size() + packets <= kMostPackets && used_ + bytes <= kBytes; }

  // Copies a datagram: `outer` and its stamp, then the packet. There must be room.
  void add(const DatagramView& view, std::span<const uint8_t> outer, std::span<const uint8_t> stamp, std::span<const uint8_t> packet, uint32_t cut_to = 0);
  // An answer that replaces packet `i`.
  void replace(uint32_t i, std::span<const uint8_t> bytes);
  FunctionVerdict verdict(uint32_t i) const;
  void clear();

  std::vector<uint8_t> outer, replaced;

 private:
  std::unique_ptr<uint8_t[]> memory_;
  std::vector<FunctionPacket> packets_;
  uint32_t used_ = 0;
};

// The bounded queue of slabs between the two threads. The lock is taken a few times for each slab, not for each packet.
class FunctionQueue {
 public:
  static constexpr uint32_t kSlabs = 32;
  // Slabs handed on and not worked on yet: one to work on, one to go on with. Others are filled up meanwhile.
  static constexpr uint32_t kAhead = 2;

  // Both are called with the lock held and must not call back.
  FunctionQueue(std::function<void()> wake_function, std::function<void()> wake_node);
  Slab& slab(uint32_t i) { return *slabs_[i]; }

  // --- the node's thread
  // The slab to add to, which has room for that much; null when the function is too far behind, or gone.
  Slab* filling(uint32_t packets, uint32_t bytes);
  // Hands on what has been added, unless the function has enough to do: then more may be added to it.
  void hand_on();
  // An answered slab, or null. It comes back by release().
  Slab* answered();
  void release(Slab* slab);

  // --- the function's thread
  // The next slab's index, which is then in hand; -1 when there is none, or one is being worked on: the function is woken for the
  // next one.
  int take();
  // The slab that was taken last has been worked on, but what is in it may not leave yet; the next one may be taken.
  void hold();
  // A slab in hand has been answered. False if it is none.
  bool give(uint32_t slab);
  Slab* in_hand(uint32_t slab);

  // --- any thread
  // No slab is taken or filled from now on, and nobody woken.
  void close();
  // Packets that never were answered.
  uint64_t unanswered() const;
  // How long the oldest unanswered slab has been waiting; 0 when there is none.
  uint64_t waiting_ns(uint64_t now_ns) const;

 private:
  struct Waiting {
    uint32_t slab;
    uint64_t since_ns;
  };
  void make_ready();

  mutable std::mutex mutex_;
  std::function<void()> wake_function_, wake_node_;
  std::array<std::unique_ptr<Slab>, kSlabs> slabs_;
  std::vector<uint32_t> free_, done_;
  std::vector<Waiting> ready_, taken_;  // oldest first; at most kSlabs
  int filling_ = -1;
  bool working_ = false;  // on the last of taken_
  bool woken_ = false, closed_ = false;
};

uint64_t steady_ns();
inline uint32_t steady_s() { return uint32_t(steady_ns() / 1'000'000'000); }

}  // namespace weir
