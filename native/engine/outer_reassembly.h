// Fragments of stamped datagrams put together again (RFC 791 section 3.2, RFC 8200 section 4.5). Everything is bounded, for who sends them
// may be hostile: a sender has so many datagrams under way and no more, of so many bytes, for a second. One whose fragments overlap is
// given up with all of them that are still to come (RFC 5722); an exact duplicate is left out. Shared by all workers behind a lock,
// which only fragments take; memory is taken at the first one.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "engine/outer_fragments.h"

namespace weir {

class OuterReassembly {
 public:
  static constexpr uint64_t kTimeoutNs = 1'000'000'000;
  // Behind the IP header. Instances may make packets longer.
  static constexpr uint32_t kLongest = 9600;
  static constexpr uint32_t kHeadroom = 192;  // before a whole frame
  // Senders share a set of places only where their addresses happen to; the oldest datagram of the set gives way.
  static constexpr uint32_t kSets = 32, kWays = 32;

  // Datagrams that were given up, and the bytes of IP packets that had come of them.
  struct Lost {
    uint32_t datagrams = 0;
    uint64_t bytes = 0;
  };
  enum class Outcome : uint8_t {
    kept,
    whole,
    left_out,  // a duplicate, or of a datagram that was given up
    overlap,   // and with it the datagram is given up
    too_long,
  };
  struct Result {
    Outcome outcome = Outcome::kept;
    Lost lost;          // overlap, too_long: this datagram
    Lost pushed_out;    // another one, for this one's place
    Frame frame;        // whole: in the sink's scratch memory, with kHeadroom bytes before it, IPv4's checksum made
    uint32_t longest = 0;  // whole: bytes of its longest fragment's IP packet
  };

  // `f` was read from `frame` and is well formed.
  Result add(const OuterFragment& f, const Frame& frame, uint64_t now_ns, Sink& sink);
  // Gives up what has been waiting for too long. Costs next to nothing while nothing is due.
  Lost expire(uint64_t now_ns);
  uint32_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kUnits = kLongest / 8, kWords = (kUnits + 63) / 64;
  static constexpr uint32_t kLongestHeader = 54;
  struct State {
    Address source, destination;
    uint32_t id = 0;
    bool used = false, given_up = false;
    uint64_t since_ns = 0;
    uint32_t total = 0;     // 0: not known yet
    uint32_t received = 0;  // bytes of the datagram
    uint32_t longest = 0;
    uint64_t bytes = 0;               // of all its IP packets
    uint64_t have[kWords] = {};       // a bit for every eight bytes
    uint8_t header[kLongestHeader] = {};  // Ethernet and IP as the first fragment has them
  };
  struct Place : State {
    uint8_t data[kLongest];
  };
  struct Free {
    void operator()(Place* places) const { std::free(places); }
  };

  Place& place_for(const OuterFragment& f, uint64_t now_ns, Result& result);
  void give_back(Place& place);
  static bool has_any(const Place& place, uint32_t from, uint32_t to);
  static bool has_all(const Place& place, uint32_t from, uint32_t to);
  static bool take(Place& place, const OuterFragment& f, const uint8_t* payload, bool& duplicate);
  static Frame finish(const Place& place, Sink& sink);

  std::mutex lock_;
  std::unique_ptr<Place[], Free> places_;
  uint32_t keys_[kSets * kWays] = {};  // what is looked at first; 0: free
  std::atomic<uint32_t> waiting_{0};   // places in use
  std::atomic<uint64_t> due_ns_{UINT64_MAX};
};

}  // namespace weir
