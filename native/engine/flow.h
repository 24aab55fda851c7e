// A live stream's entry: two cache lines, in memory that may outlive the process (flow_file.h): whatever changes here changes
// kFlowLayout. Several workers may handle packets of one stream at the same time, so what changes
// with packets is accessed by shared_load() and shared_store(), and the route stands under a version.
#pragma once
#include <algorithm>
#include <cstdint>

#include "engine/flow_key.h"
#include "engine/program.h"
#include "engine/shared.h"
#include "engine/tcp_state.h"
#include "wire/ip.h"

namespace weir {

// Where a stream goes: decided when it opens, again when its path moves or an instance fails.
struct Route {
  static constexpr uint32_t kInlinePins = 4;

  uint64_t pins = ~uint64_t(0);  // instance ids of the first four positions in chain order, 16 bits each
  uint32_t path = 0;             // path id; 0 unless the action is chain
  uint32_t decided_by = 0;       // sequence number of the program that decided it
  uint8_t hops = 0;              // how many pins are in use

  uint16_t pin(uint32_t position) const { return uint16_t(pins >> 16 * position); }
  void set_pin(uint32_t position, uint16_t instance) {
    pins = (pins & ~(uint64_t(0xffff) << 16 * position)) | uint64_t(instance) << 16 * position;
  }
};

struct alignas(64) Flow {
  enum class Life : uint8_t { free, live, retired };

  FlowKey key;           // does not change while anybody can find the entry; so do code, policy, capture and opening
  uint32_t code = 0;     // 5-tuple affinity code: the low half of the hash it is indexed by
  uint64_t last_seen_ns = 0;
  uint32_t version = 0;  // of the route: seal (flow_seal.h) << 16 | a count, odd while it is being written
  TcpState tcp = TcpState::none;  // of any other protocol: `established` once it has been answered
  Life life = Life::free;
  Action action : 2 = Action::pass;
  Direction opened : 1 = Direction::out;
  uint8_t opener_is_a : 1 = 0;

  uint8_t hops = 0;  // these four are the route: read them by FlowTable::route()
  uint64_t pins = ~uint64_t(0);
  uint32_t path = 0;
  uint32_t decided_by = 0;
  uint64_t packets = 0, bytes = 0;
  uint32_t policy = kNoPolicy;  // of a free entry: the next free one
  uint16_t capture = 0;
  uint16_t tags = 0;            // VLAN tags of its last packet, to put back behind Geneve: LinkTags::pack(); kTurnsBack
  uint32_t macs[2][3] = {};     // destination and source MAC of its last packet, by direction of travel (out, in)
};
static_assert(sizeof(Flow) == 128, "two cache lines a stream");

// What Geneve does not carry of a frame's VLAN tags. A code says which TPID: 0 none, 1 0x8100, 2 0x88a8, 3 0x9100.
struct LinkTags {
  uint8_t outer_tpid = 0, inner_tpid = 0;
  uint8_t outer_priority = 0, inner_priority = 0;  // PCP and DEI, 4 bits

  uint16_t pack() const { return uint16_t(outer_tpid << 10 | inner_tpid << 8 | outer_priority << 4 | inner_priority); }
  static LinkTags unpack(uint16_t v) { return {uint8_t(v >> 10 & 3), uint8_t(v >> 8 & 3), uint8_t(v >> 4 & 15), uint8_t(v & 15)}; }
};

// Whether both ends of a stream have been heard. Where the answers take another way, none ever is.
inline bool answered(const Flow& flow) {
  switch (shared_load(flow.tcp)) {
    case TcpState::established:
    case TcpState::closing_by_opener:
    case TcpState::closing_by_answerer: return true;
    default: return false;
  }
}

inline uint64_t idle_timeout(const Flow& flow, const IdleTimeouts& t) {
  if (flow.key.protocol() != kIpTcp) return t.other_ns;
  switch (shared_load(flow.tcp)) {
    case TcpState::closed:
    case TcpState::reset_by_opener:
    case TcpState::reset_by_answerer: return t.closed_ns;
    // Nobody has answered, or nobody was heard to have been answered: a lost SYN comes again within a minute.
    case TcpState::opening:
    case TcpState::half_open:
    case TcpState::midstream: return std::min(t.tcp_ns, t.other_ns);
    // Its opener has ended its side; whether the other side has, nobody saw, and it may still be sending.
    case TcpState::half_closed: return t.other_ns;
    default: return t.tcp_ns;
  }
}

inline bool idle_over(const Flow& flow, uint64_t now_ns, const IdleTimeouts& t) {
  const uint64_t seen = shared_load(flow.last_seen_ns);
  return now_ns > seen && now_ns - seen >= idle_timeout(flow, t);
}

}  // namespace weir
