// An instance in a group with a primary node. New streams come to the primary, which serves its share of them and directs the others to
// the rest of the group; it hands what they return to the forwarder under their address, and the forwarder sends the stream's next packets
// to them itself. Whoever has a stream keeps it: each member remembers what it serves and what it directed, so that the role may change.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/address.h"
#include "engine/counters.h"
#include "engine/frame.h"
#include "engine/program.h"
#include "engine/stamp.h"
#include "port/port.h"

namespace weir {

// Who there is, as weir and the primary's shares say: immutable, swapped whole.
struct Group {
  struct Member {
    uint16_t id = 0;  // stable for as long as the relay lives
    Address address;
    Mac mac;
    bool usable = false;      // its link address is known, and it is not down
    bool takes_new = false;
    uint16_t weight = 1;
    uint32_t seed[2] = {0, 0};
  };
  bool primary = false;  // this member directs
  uint16_t own_id = 0;
  Address own;
  Mac own_mac;
  std::vector<Member> members;  // this one too

  const Member* at(const Address& address) const;
  const Member* by_id(uint16_t id) const;
  // Whom a new stream goes to, by weighted rendezvous hashing; this member where nobody else takes any.
  uint16_t choose(uint32_t code) const;
  // What is wrong with it, or an empty string.
  std::string check() const;
};

struct GroupCounters {
  Traffic directed;     // datagrams to other members; bytes of whole frames
  Traffic handed_back;  // datagrams from them to a forwarder
  Counter chosen;       // streams that this member has decided as the primary
  Counter forgotten;    // streams whose place was needed for others
  Counter lost;         // datagrams for which there was nobody
};

class GroupRelay {
 public:
  static constexpr uint32_t kBuckets = 1u << 15, kWays = 8;

  enum class Way : uint8_t {
    here,  // this member serves it
    sent,  // it has been sent on, by the port
    lost,  // there is nobody to send it to
  };
  GroupRelay();
  // What becomes of a frame whose outer headers are good. All its datagrams are of one stream, as forwarders send them. `now_s`: any clock.
  Way take(Frame& frame, const StampedFrame& outer, const Group& group, uint32_t now_s, Port& port);
  const GroupCounters& counters() const { return counters_; }

 private:
  static constexpr uint16_t kNobody = 0xffff;
  struct Entry {
    uint32_t code = 0;
    uint32_t seen_s = 0;
    uint16_t member = kNobody;
    uint16_t forwarder = kNobody;
  };
  struct Forwarder {
    Address address;
    Mac mac;
  };
  Entry* find(uint32_t code);
  Entry& remember(uint32_t code, uint32_t now_s);
  uint16_t forwarder_of(const Address& address, const uint8_t* mac);

  std::vector<Entry> entries_;
  std::vector<Forwarder> forwarders_;
  GroupCounters counters_;
};

}  // namespace weir
