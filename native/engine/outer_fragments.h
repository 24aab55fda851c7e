// Outer packets in fragments (RFC 791 section 2.3, RFC 8200 section 4.5): cutting a stamped datagram that is longer than its underlay's
// MTU, and reading one fragment.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

#include "engine/address.h"
#include "engine/frame.h"

namespace weir {

// What may stand behind an outer IP header where outer packets are fragmented: a stamp and an IP packet of 9,216 bytes.
inline constexpr uint32_t kFragmentedRoom = 9280;

// Identifications by destination, from a keyed place on (RFC 7739 section 5.3): none comes again before all others have been used.
class FragmentIds {
 public:
  // From any thread.
  uint32_t next(const uint64_t key[2], const Address& destination);

 private:
  std::array<std::atomic<uint32_t>, 64> used_{};
};

// Sends a frame to `sink` in fragments whose IP packets have at most `mtu` bytes. It is one UDP datagram over IPv4 without options or
// IPv6 without extension headers; its first piece holds Ethernet, IP and UDP header, and its pieces last until the sink's flush. A UDP
// checksum that was left out or to the device is made: fragments of two datagrams that were taken for one would pass without it (RFC 4963).
// Returns how many there were; 0: nothing was sent, the frame is no such one or `mtu` has no room for it.
uint32_t cut_outer(const OutFrame& frame, uint32_t mtu, uint32_t id, Sink& sink);

// One fragment of a UDP datagram, offsets from the start of the frame.
struct OuterFragment {
  enum class Kind : uint8_t { none, fragment, malformed };
  Kind kind = Kind::none;
  Address source, destination;
  uint32_t id = 0;
  uint32_t offset = 0, length = 0;  // of its payload in the datagram, which begins with the UDP header
  bool more = false;                // others follow
  uint32_t payload = 0;
  uint32_t ip_length = 0;
};

// Malformed: its lengths are no fragment's, or it has IPv4 options. What is no fragment of UDP at all is none.
OuterFragment read_outer_fragment(const Frame& frame);

}  // namespace weir
