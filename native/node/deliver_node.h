// The instance that ends a chain: stamped frames in from a ring, the packets in them out to the network stack of this host, through
// an interface of it. A server that has the virtual address then answers the client by itself.
#pragma once
#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/packet.h"
#include "engine/stamp.h"
#include "node/fragment_port.h"
#include "port/frame_sender.h"
#include "port/port.h"

namespace weir {

enum class DeliverDrop : uint8_t { malformed, checksum, si_zero, not_ip, fragment_timeout, fragment_overlap, fragment_overflow, count_ };
inline constexpr const char* kDeliverDropNames[] = {"malformed", "checksum", "si_zero", "not_ip", "fragment_timeout", "fragment_overlap", "fragment_overflow"};

struct DeliverCounters {
  Traffic received, delivered;
  Counter probes;  // answered
  Counter dropped[size_t(DeliverDrop::count_)];
};

class DeliverNode final : Receiver {
 public:
  // `to`: MAC address that the packets' Ethernet headers name, all zero on a loopback.
  DeliverNode(std::unique_ptr<Port> port, const Address& address, std::unique_ptr<FrameSender> sender, const Mac& from, const Mac& to);
  ~DeliverNode();
  void start(std::function<void(std::string)> finished);
  void stop();
  void join();

  const DeliverCounters& counters() const { return counters_; }
  const FrameSender& sender() const { return *sender_; }
  const FragmentCounters& fragments() const { return fragments_.fragments(); }
  const Port& port() const { return *port_; }

 private:
  void receive(PortId port, std::span<Frame> frames) override;
  void receive(Frame& frame);
  void take_fragment(const Frame& frame);
  void lose(DeliverDrop reason, const OuterReassembly::Lost& lost);
  void deliver(uint8_t* datagram, uint32_t length, Encapsulation encapsulation);
  std::string run();

  std::unique_ptr<Port> port_;
  FragmentPort fragments_;
  const Address address_;
  std::unique_ptr<FrameSender> sender_;
  uint8_t link4_[14], link6_[14];
  DeliverCounters counters_;
  int wake_ = -1;
  std::vector<pollfd> poll_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace weir
