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
  no_underlay_address,  // instance and tunnel source are of different address families
  return_malformed,     // outer headers or stamp unreadable
  return_checksum,
  return_unknown_path,
  return_bad_index,     // SI (or hop) that the path does not have
  return_wrong_instance,
  return_unknown_stream,
  return_wrong_code,
  ttl_expired,          // NSH TTL
  oam,                  // O bit: a probe, not a packet
  count_
};

inline constexpr std::array<std::string_view, size_t(DropReason::count_)> kDropReasonNames = {
    "runt", "truncated", "bad_ip_header", "bad_ip_length", "bad_extension", "bad_transport", "fragment_orphan",
    "fragment_overflow", "unsupported_offload", "flow_table_full", "policy", "no_instance", "held", "too_big", "no_underlay_address",
    "return_malformed", "return_checksum", "return_unknown_path", "return_bad_index", "return_wrong_instance",
    "return_unknown_stream", "return_wrong_code", "ttl_expired", "oam"};

enum class CrossReason : uint8_t {
  not_ip,               // ARP, LLDP, MPLS, …
  neighbour_discovery,
  other_protocol,       // IP, but not TCP, UDP, ICMP or ICMPv6
  policy,               // action: pass
  default_pass,
  empty_chain,          // a chain of no hops, or every hop failed open
  count_
};

inline constexpr std::array<std::string_view, size_t(CrossReason::count_)> kCrossReasonNames = {
    "not_ip", "neighbour_discovery", "other_protocol", "policy", "default_pass", "empty_chain"};

}  // namespace weir
