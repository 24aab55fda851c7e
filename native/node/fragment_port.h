// Datagrams that came to a node in fragments, and the way back for them: a port before the node's own that sends what is longer than
// the longest of these fragments in fragments again. So a node needs no option and no MTU: weir's configuration decides.
#pragma once
#include <cstdint>

#include "engine/counters.h"
#include "engine/frame_collector.h"
#include "engine/outer_reassembly.h"
#include "port/port.h"

namespace weir {

// How long a node may sleep while fragments wait: bounds how late datagrams that never become whole are given up.
inline constexpr int kFragmentWaitMs = 100;

struct FragmentCounters {
  Counter received, reassembled;  // fragments, and datagrams made of them
  Counter fragmented, sent;       // datagrams that left in fragments, and these
};

class FragmentPort final : public Port, Sink {
 public:
  FragmentPort(Port& port, const Address& own);

  enum class Way : uint8_t { none, kept, whole, malformed, overlap, too_long };
  struct Taken {
    Way way = Way::none;
    OuterReassembly::Lost lost, pushed_out;
    Frame frame;  // whole; its memory is free after reset()
    uint32_t longest = 0;
  };
  // `none`: it is no fragment for this node.
  Taken take(const Frame& frame, uint64_t now_ns);
  OuterReassembly::Lost expire(uint64_t now_ns) { return reassembly_.expire(now_ns); }
  bool waiting() const { return reassembly_.waiting() > 0; }

  // What send() cuts to: bytes of an IP packet.
  void cut_to(uint32_t mtu) { mtu_ = mtu; }
  // After the port's flush().
  void reset() {
    if (arena_.in_use()) arena_.reset();
  }
  const FragmentCounters& fragments() const { return fragments_; }

  std::span<const int> descriptors() const override { return port_.descriptors(); }
  uint32_t receive(PortId id, Receiver& receiver) override { return port_.receive(id, receiver); }
  void release() override { port_.release(); }
  void send(const OutFrame& frame) override;
  void flush() override { port_.flush(); }
  PortCounters counters() const override { return port_.counters(); }
  bool carries(uint8_t gso) const override { return port_.carries(gso); }

 private:
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override { port_.send(frame); }

  bool carries(PortId, uint8_t gso) const override { return port_.carries(gso); }

  Port& port_;
  const Address own_;
  uint64_t key_[2];
  uint32_t mtu_ = 65535;
  ScratchArena arena_;
  OuterReassembly reassembly_;
  FragmentIds ids_;
  FragmentCounters fragments_;
};

}  // namespace weir
