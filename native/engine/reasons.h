// Why a frame was dropped or crossed without being steered. The names are what stats, replay reports and metrics print.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace weir {

enum class DropReason : uint8_t {
  runt,                 // shorter than its Ethernet header
  truncated,            // the capture cut it (snap length)
  bad_ip_header,
  bad_ip_length,
  bad_extension,        // IPv6 extension header past the end, or too many
  bad_transport,        // TCP, UDP or ICMP header past the end, or lying about its length
  fragment_orphan,      // later fragment whose first one did not come in time
  fragment_overflow,    // no room to hold it
  unsupported_offload,
  flow_table_full,      // more new streams at once than the table has spare entries for
  policy,               // a policy or the default says drop
  no_instance,          // fail: closed and nobody up
  held,                 // on_failure: hold and the stream's instance is down
  too_big,              // does not fit the underlay; the sender was told where that is possible
  no_underlay_address,  // its underlay has no address of the instance's family
  return_malformed,     // outer headers or stamp unreadable
  return_checksum,
  return_unknown_path,
  return_bad_index,     // SI (or hop) that the path does not have
  return_wrong_instance,
  return_unknown_stream,
  return_wrong_code,
  ttl_expired,          // NSH TTL
  oam,                  // O bit: a probe, not a packet
  // From an instance that knows nothing of stamps:
  proxy_link,           // ARP, neighbour discovery, STP, LLDP, redirects …: what it says on its own link
  proxy_unknown,        // on a port or VLAN that no instance is attached to
  proxy_no_stream,      // of no live stream that is with this instance: it opened a connection of its own
  proxy_wrong_side,     // came out of the side that its stream goes in by
  proxy_ambiguous,      // streams of two captures or VLANs with the same addresses and ports are with it
  proxy_overflow,       // more different VLANs than can be remembered
  return_delivered,     // from an instance that ends the chain: it was to keep it
  return_wrong_underlay,  // by another underlay than the one that its instance is reached on
  // A datagram that came back in fragments (`fragment: true`):
  return_fragment_timeout,   // not all of them within a second
  return_fragment_overlap,   // they say different things of the same place
  return_fragment_overflow,  // too long, or pushed out by later ones of the same sender
  count_
};

inline constexpr std::array<std::string_view, size_t(DropReason::count_)> kDropReasonNames = {
    "runt", "truncated", "bad_ip_header", "bad_ip_length", "bad_extension", "bad_transport", "fragment_orphan",
    "fragment_overflow", "unsupported_offload", "flow_table_full", "policy", "no_instance", "held", "too_big", "no_underlay_address",
    "return_malformed", "return_checksum", "return_unknown_path", "return_bad_index", "return_wrong_instance",
    "return_unknown_stream", "return_wrong_code", "ttl_expired", "oam", "proxy_link", "proxy_unknown", "proxy_no_stream", "proxy_wrong_side",
    "proxy_ambiguous", "proxy_overflow", "return_delivered", "return_wrong_underlay", "return_fragment_timeout", "return_fragment_overlap",
    "return_fragment_overflow"};

enum class CrossReason : uint8_t {
  not_ip,               // ARP, LLDP, MPLS, …
  neighbour_discovery,
  other_protocol,       // IP, but not TCP, UDP, ICMP or ICMPv6
  policy,               // action: pass
  default_pass,
  empty_chain,          // a chain of no hops, or every hop failed open
  delivered_answer,     // the answer of an instance that ends a chain
  count_
};

inline constexpr std::array<std::string_view, size_t(CrossReason::count_)> kCrossReasonNames = {
    "not_ip", "neighbour_discovery", "other_protocol", "policy", "default_pass", "empty_chain",
    "delivered_answer"};

}  // namespace weir
