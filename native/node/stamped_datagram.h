// A stamped datagram as a service instance sees it, and how it turns round: addresses swapped, one service done.
#pragma once
#include <cstdint>

#include "engine/frame.h"
#include "engine/stamp.h"

namespace weir {

enum class NodeDrop : uint8_t {
  malformed,
  checksum,
  si_zero,
  queue_full,
  no_function,
  function_drop,
  function_error,
  too_big,
  // Of a mesh chain:
  bad_index,      // SI that the path does not have
  wrong_service,  // the service whose turn it is, is another one
  no_instance,    // nobody is left who performs the next service
  unresolved,     // the next instance's link address is not known
  ttl_expired,    // it has been handed on too often: a loop
  loop,           // the map has this instance twice on a path
  stranger,       // from an address that is neither a forwarder's nor an instance's
  exit_too_long,  // to leave from this host: longer than the MTU there
  exit_no_route,  // this host has no route for it
  exit_failed,    // the kernel refused it for another reason
  // A datagram that came in fragments:
  fragment_timeout,   // not all of them within a second
  fragment_overlap,   // they say different things of the same place
  fragment_overflow,  // too long, or pushed out by later ones of the same sender
  count_
};
inline constexpr const char* kNodeDropNames[] = {"malformed",   "checksum",      "si_zero",        "queue_full", "no_function",
                                                 "function_drop", "function_error", "too_big",     "bad_index",  "wrong_service",
                                                 "no_instance", "unresolved",    "ttl_expired",    "loop",       "stranger",
                                                 "exit_too_long", "exit_no_route", "exit_failed",    "fragment_timeout", "fragment_overlap", "fragment_overflow"};
// What the node sends back at most, in bytes: outer headers, stamp and packet.
inline constexpr uint32_t kLongestDatagram = 65000;

struct DatagramView {
  Encapsulation encapsulation = Encapsulation::nsh;
  uint32_t stamp = 0;  // bytes of the stamp
  uint32_t code = 0, spi = 0;
  uint8_t si = 0;
  uint8_t ttl = 0;        // nsh
  bool ethernet = false;  // what follows is a frame, else an IP packet
};

// Reads the stamp at `p`. False when malformed.
bool read_datagram(const uint8_t* p, uint32_t length, Encapsulation encapsulation, DatagramView& view);

// Whether the frame is one datagram with the O bit: a probe, which is turned round before any function sees it.
bool is_probe_frame(const Frame& frame, const StampedFrame& outer);

// Swaps the outer MAC and IP addresses of a frame in place. UDP ports stay as they came.
void swap_outer(uint8_t* frame);

// Has a frame leave for somewhere else: new MAC and IP addresses of the same family, in place. IPv4's own checksum is left to do.
void redirect_outer(uint8_t* frame, const Mac& from_mac, const Address& from, const Mac& to_mac, const Address& to);

// Makes the checksums of a whole frame right again after outer addresses or stamps were changed: IPv4's own, and UDP's as the frame
// has it: full, left to the device, or none.
void finish_outer(Frame& frame, const StampedFrame& outer);

// Turns a whole frame (one datagram or a UDP_L4 batch of them) round in place: every datagram's service index goes down by
// one, the checksum stays right. On a drop nothing may be sent.
// Returns count_ when fine, else the reason.
NodeDrop turn_round(Frame& frame, const StampedFrame& outer, uint32_t& datagrams);

}  // namespace weir
