// Exact-match table of live streams. Fixed size, preallocated; lookup touches one index line and the entry. Idle streams
// leave in order of idleness, a few at a time; when the table is full the idlest goes first.
//
// Not thread-safe: it belongs to one pipeline.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "engine/flow_key.h"
#include "engine/program.h"
#include "engine/tcp_state.h"

namespace weir {

enum class IdleClass : uint8_t { tcp, other, closed, count_ };

struct Flow {
  static constexpr uint32_t kInlinePins = 4;

  FlowKey key;
  uint32_t code = 0;          // 5-tuple affinity code: the low half of the hash it is indexed by
  uint64_t last_seen_ns = 0;
  uint32_t older = 0, newer = 0;  // neighbours in its idle list, entry numbers, 0 none

  uint64_t packets = 0, bytes = 0;
  uint32_t path : 20 = 0;     // path id; 0 unless action is chain
  uint32_t outer_tpid : 2 = 0;  // VLAN tags of its last packet, to put back behind Geneve: 0 none, 1 0x8100, 2 0x88a8, 3 0x9100
  uint32_t inner_tpid : 2 = 0;
  uint32_t outer_priority : 4 = 0;  // PCP and DEI
  uint32_t inner_priority : 4 = 0;
  uint32_t policy : 26 = kNoPolicy;
  uint32_t hops : 6 = 0;      // how many pins are in use
  uint16_t pins[kInlinePins] = {kNoInstance, kNoInstance, kNoInstance, kNoInstance};
  uint8_t macs[2][12] = {};   // destination and source MAC of its last packet, by direction of travel (out, in)
  uint32_t listed_at = 0;     // in kListTick units: when it was last moved to the newer end of its list
  TcpState tcp = TcpState::none;
  Direction opened : 1 = Direction::out;
  uint8_t opener_is_a : 1 = 0;
  Action action : 2 = Action::pass;
  IdleClass idle : 2 = IdleClass::other;
  uint8_t in_use : 1 = 0;
  uint16_t capture = 0;
};
static_assert(sizeof(Flow) == 128, "two cache lines a stream");

class FlowTable {
 public:
  explicit FlowTable(uint32_t capacity);

  uint32_t capacity() const { return capacity_; }
  uint32_t size() const { return size_; }

  Flow* find(const FlowKey& key, uint64_t hash);
  const Flow* find(const FlowKey& key, uint64_t hash) const { return const_cast<FlowTable*>(this)->find(key, hash); }
  // The key must not be in the table, and the table not full.
  Flow* insert(const FlowKey& key, uint64_t hash, uint64_t now_ns);
  bool full() const { return size_ == capacity_; }
  void erase(Flow* flow);
  // Marks as seen now, in the given idle class.
  void touch(Flow* flow, IdleClass idle, uint64_t now_ns);
  // The stream to give up when the table is full.
  Flow* idlest();
  // A stream whose idle time is over, or null.
  Flow* expired(uint64_t now_ns, const IdleTimeouts& idle);

  // Pins by position in chain order; positions past the inline ones live in a table beside it that only long chains touch.
  uint16_t pin(const Flow* flow, uint32_t position) const;
  void set_pin(Flow* flow, uint32_t position, uint16_t instance);

  // For listings: entry numbers 1 … high_water().
  const Flow* at(uint32_t number) const { return number <= high_water_ && entries_.get()[number].in_use ? &entries_.get()[number] : nullptr; }
  uint32_t high_water() const { return high_water_; }

 private:
  static constexpr uint64_t kListTickShift = 30;  // 1.07 s: how exact the order of idleness is
  struct List {
    uint32_t oldest = 0, newest = 0;
  };
  uint32_t number(const Flow* flow) const { return uint32_t(flow - entries_.get()); }
  void unlink(Flow* flow);
  void link_newest(Flow* flow, IdleClass idle, uint64_t now_ns);
  static uint64_t timeout(IdleClass idle, const IdleTimeouts& t) {
    return idle == IdleClass::tcp ? t.tcp_ns : idle == IdleClass::other ? t.other_ns : t.closed_ns;
  }
  Flow* oldest_of(const List& list) { return list.oldest ? &entries_.get()[list.oldest] : nullptr; }

  uint32_t capacity_, size_ = 0, high_water_ = 0, free_ = 0;
  uint64_t mask_;
  // Slot: hash's high half | entry number; 0 is empty. Linear probing, load at most one half, deletion by shifting back.
  std::unique_ptr<uint64_t, void (*)(void*)> index_;
  std::unique_ptr<Flow, void (*)(void*)> entries_;
  std::unique_ptr<uint16_t, void (*)(void*)> far_pins_;
  List lists_[size_t(IdleClass::count_)];
};

}  // namespace weir
