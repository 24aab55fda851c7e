// Later fragments have no ports, and over IPv6 no protocol that counts: this remembers, per datagram, those of its first fragment
// (RFC 791, RFC 8200 section 4.5), and holds fragments that came before their first one. Bounded in both; the oldest gives way. Shared by all workers: fragments
// are rare enough for a lock.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/flow_key.h"
#include "engine/frame.h"

namespace weir {

struct FragmentKey {
  Address source, destination;
  uint32_t id = 0;
  uint32_t tenant_protocol = 0;  // protocol: over IPv4, where it is part of a datagram's name
  uint32_t vlans = 0;
  uint32_t direction = 0;
  bool operator==(const FragmentKey&) const = default;
};

struct FragmentPorts {
  uint16_t source = 0, destination = 0;
  uint8_t protocol = 0;
  bool crosses = false;  // nothing that is steered
};

class FragmentTable {
 public:
  static constexpr uint64_t kLifetimeNs = 60'000'000'000;  // RFC 8200; Linux waits as long over IPv6, 30 s over IPv4
  static constexpr uint64_t kHoldNs = 1'000'000'000;
  static constexpr uint32_t kHeldFrames = 256, kHeldBytes = 9216, kHeldHeadroom = 192;

  struct Held {
    FragmentKey key;
    uint64_t since_ns = 0;
    PortId port = 0;
    uint32_t length = 0;  // 0: free
    bool offload_unknown = false;
  };

  explicit FragmentTable(uint32_t datagrams);

  // `first`: a datagram that is known keeps what its first one said.
  void remember(const FragmentKey& key, FragmentPorts ports, uint64_t now_ns, bool first);
  bool find(const FragmentKey& key, uint64_t now_ns, FragmentPorts& ports) const;

  // Copies a frame that came too early. False when it does not fit or all places are taken.
  bool hold(const FragmentKey& key, PortId port, const Frame& frame, uint64_t now_ns);
  uint32_t held() const { return held_.load(std::memory_order_relaxed); }
  // Copies one held frame of this datagram out (to kHeldHeadroom bytes behind `to`) and frees its place; false when there is none left.
  bool take(const FragmentKey& key, Held& held, uint8_t* to);
  // Gives up frames held too long; returns how many.
  uint32_t expire(uint64_t now_ns);

 private:
  struct Row {
    FragmentKey key;
    FragmentPorts ports;
    uint64_t seen_ns = 0;
    bool used = false;
  };
  static constexpr uint32_t kWays = 8;
  uint64_t bucket(const FragmentKey& key) const;

  std::vector<Row> rows_;
  std::vector<Held> places_;
  std::unique_ptr<uint8_t[]> memory_;
  std::atomic<uint32_t> held_{0};
  mutable std::mutex lock_;
};

}  // namespace weir
