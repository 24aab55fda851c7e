// The one place that reads a frame from outside: checks every length and finds the stream's tuple. After a `steer`
// verdict all offsets lie within the frame.
#pragma once
#include <cstdint>

#include "engine/flow_key.h"
#include "engine/frame.h"
#include "engine/reasons.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {

struct Packet {
  enum class Verdict : uint8_t { steer, cross, malformed };

  Verdict verdict = Verdict::malformed;
  DropReason drop = DropReason::runt;
  CrossReason cross = CrossReason::not_ip;

  uint8_t* bytes = nullptr;   // of the Ethernet header, or of the IP header for packets without one
  uint32_t ip = 0;            // offset of the IP header; also the length of Ethernet header and tags
  uint32_t transport = 0;     // offset of the TCP/UDP/ICMP header (of the fragment's data for later fragments)
  uint32_t payload = 0;       // offset behind the transport header
  uint32_t end = 0;           // offset behind the last byte of the IP packet
  uint16_t outer_tci = 0, inner_tci = 0;
  uint16_t outer_tpid = 0, inner_tpid = 0;  // 0 where there is no tag
  uint8_t version = 0;        // 4 or 6
  uint8_t tcp_flags = 0;
  bool fragment = false;      // part of a fragmented datagram …
  bool first_fragment = false;  // … and the part that has the ports
  uint32_t fragment_id = 0;
  bool icmp_error = false;    // `tuple` is that of the quoted stream, as its answers travel
  Tuple tuple;                // without tenant, capture and direction: the caller knows those
  Tuple icmp_tuple;           // for icmp_error: the message as a stream of its own

  bool is(uint8_t protocol) const { return ip_protocol == protocol; }
  uint8_t ip_protocol = 0;    // of this packet itself
  uint32_t ip_length() const { return end - ip; }
  uint32_t ip_header_to_transport() const { return transport - ip; }
};

// Reads an Ethernet frame.
void parse_frame(const Frame& frame, Packet& packet);
inline Packet parse_frame(const Frame& frame) {
  Packet packet;
  parse_frame(frame, packet);
  return packet;
}
// Reads an IP packet that has no Ethernet header (behind Geneve, or NSH next protocol 1 and 2).
void parse_ip(uint8_t* bytes, uint32_t length, uint32_t wire_length, Packet& packet);

}  // namespace weir
