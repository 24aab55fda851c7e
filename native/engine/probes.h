// Health probes: stamped packets with the O bit (RFC 8300 section 2.2, RFC 8926 section 3.4) that go to an instance and come back
// the way that packets of streams do, so what they say holds for streams too. Pure like the pipeline: time and frames come in.
//
// An answer counts only from the instance's own address on its underlay, with the nonce of the probe that is under way: 64 bits that nobody who
// has not seen the probe can know.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "engine/frame.h"
#include "engine/program.h"
#include "engine/stamp.h"

namespace weir {

inline constexpr uint64_t kNever = ~uint64_t(0);

// What is known of one instance by its probes.
struct ProbeRow {
  uint16_t instance = kNoInstance;
  uint32_t answered_in_a_row = 0, lost_in_a_row = 0;
  uint64_t sent = 0, answered = 0;
  uint64_t refused = 0;  // answers without the nonce
  uint64_t late = 0;     // answers after their time
  uint64_t latency_ns = 0;
};

class Probes {
 public:
  // When run() has something to do; kNever where nothing is probed.
  uint64_t due() const { return due_ns_.load(std::memory_order_relaxed); }
  // Gives up what was not answered in time, and sends what is due. `sequence`: of the program, so that a new one is noticed. True
  // if a frame was emitted.
  bool run(uint64_t now_ns, const Program& program, uint32_t sequence, Sink& sink);
  // A datagram with the O bit came back, by this port. False if it answers nothing.
  bool answer(uint64_t now_ns, const Program& program, PortId port, const Address& source, const uint8_t* datagram, uint32_t length, uint32_t stamp_length);
  // Whether some instance has since reached its number of answers or losses in a row.
  bool take_news() { return news_.load(std::memory_order_relaxed) && news_.exchange(false, std::memory_order_acquire); }
  std::vector<ProbeRow> rows() const;

 private:
  struct Target {
    uint32_t index = 0;  // in Program::instances
    ProbeRow row;
    uint64_t next_ns = 0, sent_ns = 0, deadline_ns = 0, nonce = 0;
    bool waiting = false;
  };

  void adopt(const Program& program, uint64_t now_ns);
  Target* find(uint16_t instance);
  void lose(const Instance& instance, Target& target);
  bool send(const Program& program, const Instance& instance, Target& target, Sink& sink);

  mutable std::mutex lock_;
  std::vector<Target> targets_;  // by instance id
  uint32_t sequence_ = 0;
  bool adopted_ = false;
  uint64_t sends_ = 0;
  std::atomic<uint64_t> due_ns_{0};
  std::atomic<bool> news_{false};
};

// Whether a datagram (from its VXLAN-GPE or Geneve header on) has the O bit.
bool is_probe(const uint8_t* datagram, uint32_t length, Encapsulation encapsulation);

}  // namespace weir
