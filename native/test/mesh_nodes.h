// A service node with a service map, for native tests: a port with a script, and what is sent.
#pragma once
#include <doctest/doctest.h>

#include <mutex>
#include <thread>

#include "frames.h"
#include "node/service_node.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir::test {

// From 10.20.0.1 to 10.20.0.11, path 5 (SPI 10), SI 255, code 0xf1737551.
inline const Bytes kStamped = hex(
    "02000000000b02000000000108004500006200004000401126560a1400010a14000bf55112b6004e00000c0000040000"
    "00000fc4020300000aff00000804f17375510200000000bb0200000000aa08004500002000010000401160ba0a010002"
    "08080808cf84270f000c0e5877656972");
inline constexpr uint32_t kStampAt = 42, kCode = 0xf1737551;

struct Sent {
  Bytes bytes;
  Offload offload;
};

// Gives each frame once; keeps what is sent.
class ScriptPort final : public Port {
 public:
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId id, Receiver& receiver) override {
    std::unique_lock lock(mutex_);
    if (script_.empty()) return 0;
    at_ = std::move(script_.front());
    script_.erase(script_.begin());
    lock.unlock();
    // Exactly as long as it is, so that a sanitizer sees a read past its end.
    std::unique_ptr<uint8_t[]> copy(new uint8_t[at_.bytes.size()]);
    std::copy(at_.bytes.begin(), at_.bytes.end(), copy.get());
    held_ = std::move(copy);
    Frame frame{held_.get(), uint32_t(at_.bytes.size()), uint32_t(at_.bytes.size()), 0, at_.offload, false};
    receiver.receive(id, {&frame, 1});
    return 1;
  }
  void release() override {}
  void send(const OutFrame& frame) override {
    Sent sent{{}, frame.offload};
    for (const Piece& piece : frame.pieces) sent.bytes.insert(sent.bytes.end(), piece.bytes, piece.bytes + piece.length);
    std::lock_guard lock(mutex_);
    sent_.push_back(std::move(sent));
  }
  void flush() override {}
  bool carries(uint8_t) const override { return true; }
  PortCounters counters() const override { return {}; }

  void give(Sent frame) {
    std::lock_guard lock(mutex_);
    script_.push_back(std::move(frame));
  }
  std::vector<Sent> sent() {
    std::lock_guard lock(mutex_);
    return sent_;
  }
  bool done() {
    std::lock_guard lock(mutex_);
    return script_.empty();
  }

 private:
  std::mutex mutex_;
  std::vector<Sent> script_, sent_;
  Sent at_;
  std::unique_ptr<uint8_t[]> held_;
};

inline Mac mac(uint8_t last) { return {{2, 0, 0, 0, 0, last}}; }

// Path 5: services 0 (this node), 1 (10.20.0.21 and .22), 2 (.31).
inline std::shared_ptr<MeshMap> map_of(bool resolved = true) {
  auto map = std::make_shared<MeshMap>();
  map->version = 7;
  map->own = {ip(10, 20, 0, 11), mac(11), true};
  map->own_service = 0;
  map->forwarders = {{ip(10, 20, 0, 1), mac(1), true}};
  for (const uint8_t last : {11, 21, 22, 31}) map->instances.push_back({{ip(10, 20, 0, last), mac(last), resolved}, {last, uint32_t(last * 77)}});
  map->paths[5] = {true, true, {{0, false, {{0, 1}}}, {1, false, {{1, 1}, {2, 1}}}, {2, false, {{3, 1}}}}};
  REQUIRE(map->check().empty());
  return map;
}

struct MeshNode {
  explicit MeshNode(std::shared_ptr<const MeshMap> map = map_of()) {
    auto owned = std::make_unique<ScriptPort>();
    port = owned.get();
    node = std::make_unique<ServiceNode>(std::move(owned), ip(10, 20, 0, 11), ServiceNode::Function::pass);
    node->install(std::move(map));
  }
  ~MeshNode() {
    node->stop();
    node->join();
  }
  // What it does with the frames, which are all there before it begins.
  std::vector<Sent> run(std::vector<Sent> frames) {
    for (Sent& frame : frames) port->give(std::move(frame));
    node->start([](std::string) {});
    for (int i = 0; i < 20'000 && !(port->done() && seen() >= expected); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    node->stop();
    node->join();
    return port->sent();
  }
  uint64_t seen() const { return node->counters().received.packets.get(); }
  uint64_t dropped(NodeDrop reason) const { return node->counters().dropped[size_t(reason)].get(); }
  ScriptPort* port;
  uint64_t expected = 0;
  std::unique_ptr<ServiceNode> node;
};

inline bool checksum_is_right(const Bytes& frame) { return checksum_fold(checksum_add(frame.data() + kEthernetHeader, kIpv4Header, 0)) == 0xffff; }

inline Bytes with(Bytes frame, uint32_t at, std::initializer_list<uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), frame.begin() + at);
  return frame;
}

inline void fix_ip(Bytes& frame) { Ipv4::finish(frame.data() + kEthernetHeader); }

inline constexpr uint32_t kSpiAt = kStampAt + kNshPathWord, kSiAt = kSpiAt + 3, kTtlAt = kStampAt + kNshTtlWord;

}  // namespace weir::test
