#include "node/direct_exit.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/packet.h"
#include "node/mesh_map.h"
#include "node/stamped_datagram.h"
#include "port/send_batch.h"
#include "wire/checksum.h"
#include "wire/geneve.h"
#include "wire/ip.h"
#include "wire/vxlan_nsh.h"

namespace weir {
namespace {

// An address of one host that is more than its own link or itself: all others mean something else on this host than where they come from.
bool is_far4(const uint8_t* a) { return a[0] != 0 && a[0] != 127 && a[0] < 224 && !(a[0] == 169 && a[1] == 254); }

bool is_far6(const uint8_t* a) {
  static constexpr uint8_t kZero[8] = {};  // unspecified, loopback, IPv4 in IPv6
  return a[0] != 0xff && !(a[0] == 0xfe && (a[1] & 0xc0) == 0x80) && std::memcmp(a, kZero, sizeof kZero) != 0;
}

bool is_stamp_port(uint16_t port) { return port == kVxlanGpePort || port == kGenevePort; }

// What a forwarder or an instance could take for stamped, or for word of one of them. A workload may have written it.
bool is_for_underlay(const Packet& packet, const uint8_t* source, const uint8_t* destination, const MeshMap& map) {
  if (packet.is(kIpUdp) && (is_stamp_port(packet.tuple.source_port) || is_stamp_port(packet.tuple.destination_port))) return true;
  auto address = [&](const uint8_t* a) { return packet.version == 4 ? Address::from_ipv4(a) : Address::from_ipv6(a); };
  return map.knows(address(source)) || map.knows(address(destination));
}

NodeDrop reason_of(int error) {
  switch (error) {
    case EMSGSIZE: return NodeDrop::exit_too_long;
    case ENETUNREACH:
    case EHOSTUNREACH: return NodeDrop::exit_no_route;
    default: return NodeDrop::exit_failed;
  }
}

}  // namespace

DirectExit::DirectExit(Traffic& exited, std::span<Counter> dropped) : exited_(exited), dropped_(dropped) {
  renew(v4_);
  renew(v6_);
}

DirectExit::~DirectExit() {
  for (const int fd : {v4_.fd, v6_.fd})
    if (fd >= 0) close(fd);
}

bool DirectExit::renew(Queue& queue) {
  const bool ipv4 = &queue == &v4_;
  // IPPROTO_RAW: headers are ours, and nothing is received (raw(7), linux/net/ipv6/raw.c).
  const int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  if (fd < 0) return false;
  const int on = 1;
  setsockopt(fd, ipv4 ? int(IPPROTO_IP) : int(IPPROTO_IPV6), ipv4 ? IP_HDRINCL : IPV6_HDRINCL, &on, sizeof on);
  if (queue.fd >= 0) close(queue.fd);
  queue.fd = fd;
  return true;
}

bool DirectExit::take(uint8_t* inner, uint32_t length, bool ethernet, const MeshMap& map) {
  Packet packet;
  if (ethernet) {
    parse_frame({inner, length, length, 0, {}, false}, packet);
  } else {
    parse_ip(inner, length, length, packet);
  }
  if (packet.verdict != Packet::Verdict::steer || packet.outer_tpid) return false;
  uint8_t* header = packet.bytes + packet.ip;
  const bool ipv4 = packet.version == 4;
  const uint8_t *source = header + (ipv4 ? 12 : 8), *destination = header + (ipv4 ? 16 : 24);
  uint8_t& ttl = header[ipv4 ? 8 : 7];
  if (ttl <= 1 || is_for_underlay(packet, source, destination, map)) return false;
  if (ipv4) {
    if (!is_far4(source) || !is_far4(destination)) return false;
    // The kernel makes a checksum of its own: what is damaged would look whole.
    if (checksum_fold(checksum_add(header, Ipv4::header_length(header), 0)) != 0xffff) return false;
    // What may be fragmented and has no identification gets one of the kernel's, and each fragment another.
    if (packet.fragment_id == 0 && !(Ipv4::fragment_field(header) & Ipv4::kDontFragment)) return false;
  } else if (!is_far6(source) || !is_far6(destination)) {
    return false;
  }
  ttl--;  // as at every router, so that what comes round again ends; the kernel makes the checksum
  Queue& queue = ipv4 ? v4_ : v6_;
  if (queue.queued == kBatch) flush(queue);
  const uint32_t at = queue.queued++;
  Destination& to = queue.to[at];
  to = {};
  if (ipv4) {
    to.v4.sin_family = AF_INET;
    std::memcpy(&to.v4.sin_addr, destination, 4);
  } else {
    to.v6.sin6_family = AF_INET6;
    std::memcpy(&to.v6.sin6_addr, destination, 16);
  }
  queue.pieces[at] = {header, packet.ip_length()};
  msghdr& message = queue.messages[at].msg_hdr;
  message = {};
  message.msg_name = &to;
  message.msg_namelen = ipv4 ? sizeof to.v4 : sizeof to.v6;
  message.msg_iov = &queue.pieces[at];
  message.msg_iovlen = 1;
  return true;
}

void DirectExit::flush(Queue& queue) {
  // A socket can be full of packets to somebody who does not answer ARP. They are the kernel's, which keeps as many as it would of
  // any router's, and others don't wait for them.
  auto full = [&] { return renew(queue); };
  send_batch(queue.fd, queue.messages.data(), queue.queued, full, [this](uint64_t packets, uint64_t bytes) { exited_.add(packets, bytes); }, [this](int error) { dropped_[size_t(reason_of(error))]++; });
  queue.queued = 0;
}

void DirectExit::flush() {
  if (v4_.queued) flush(v4_);
  if (v6_.queued) flush(v6_);
}

}  // namespace weir
