// A service instance's thread: stamped frames in from a ring, turned round, out again. The function `pass` is done here, whole
// frames at a time; any other gets batches of packets and answers with verdicts.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/counters.h"
#include "node/return_batch.h"
#include "node/stamped_datagram.h"
#include "port/port.h"

namespace weir {

struct NodePacket {
  DatagramView view;
  uint32_t at = 0, length = 0;          // the inner packet in NodeBatch::bytes
  uint32_t outer_at = 0, outer_length = 0;  // the outer headers and stamp it came behind
  bool ipv6 = false;
};

struct NodeVerdict {
  enum class Kind : uint8_t { forward, drop, replace, error } kind = Kind::forward;
  std::vector<uint8_t> replacement;
};

struct NodeBatch {
  std::vector<uint8_t> bytes;
  std::vector<NodePacket> packets;
};

struct NodeCounters {
  Traffic received, returned;
  Counter dropped[size_t(NodeDrop::count_)];
};

class ServiceNode final : Receiver {
 public:
  // `deliver` (may be empty: pass) is called on the thread with a batch to hand on; false when the other side is behind.
  using Deliver = std::function<bool(std::shared_ptr<NodeBatch>)>;

  ServiceNode(std::unique_ptr<Port> port, const Address& address, Deliver deliver);
  ~ServiceNode();
  void start(std::function<void(std::string)> finished);
  // From any thread: what became of a batch's packets.
  void verdicts(std::shared_ptr<NodeBatch> batch, std::vector<NodeVerdict> verdicts);
  void stop();
  void join();

  const NodeCounters& counters() const { return counters_; }
  const Port& port() const { return *port_; }

 private:
  void receive(PortId port, std::span<Frame> frames) override;
  void receive(Frame& frame);
  void collect(Frame& frame, const StampedFrame& outer);
  void send_back(NodeBatch& batch, const NodePacket& packet, const uint8_t* inner, uint32_t length);
  void finish_batches();
  std::string run();

  std::unique_ptr<Port> port_;
  Address address_;
  Deliver deliver_;
  NodeCounters counters_;
  ReturnBatch back_;
  std::shared_ptr<NodeBatch> batch_;

  int wake_ = -1;
  std::atomic<bool> stopping_{false};
  std::mutex done_mutex_;
  std::vector<std::pair<std::shared_ptr<NodeBatch>, std::vector<NodeVerdict>>> done_;
  std::thread thread_;
};

}  // namespace weir
