#include "netlink.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>

namespace weir::netlink {
namespace {

constexpr uint32_t kReplyBytes = 64 * 1024;

class Request {
 public:
  template <typename Body>
  Request(uint16_t type, uint16_t flags, const Body& body) {
    auto* h = header();
    h->nlmsg_type = type;
    h->nlmsg_flags = uint16_t(NLM_F_REQUEST | flags);
    std::memcpy(NLMSG_DATA(h), &body, sizeof body);
    h->nlmsg_len = NLMSG_LENGTH(sizeof body);
  }
  void attribute(uint16_t type, const void* value, uint16_t length) {
    auto* a = reinterpret_cast<rtattr*>(bytes_ + NLMSG_ALIGN(header()->nlmsg_len));
    a->rta_type = type;
    a->rta_len = uint16_t(RTA_LENGTH(length));
    std::memcpy(RTA_DATA(a), value, length);
    header()->nlmsg_len = NLMSG_ALIGN(header()->nlmsg_len) + RTA_ALIGN(a->rta_len);
  }
  void attribute(uint16_t type, const Address& a) {
    a.is_ipv4() ? attribute(type, a.ipv4(), 4) : attribute(type, a.bytes.data(), 16);
  }
  // Calls `each` for every message of the answer. False on an error answer.
  bool ask(const std::function<void(const nlmsghdr*)>& each) {
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return false;
    const bool ok = send(fd, bytes_, header()->nlmsg_len, 0) >= 0 && read_answer(fd, each);
    close(fd);
    return ok;
  }

 private:
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_); }
  bool read_answer(int fd, const std::function<void(const nlmsghdr*)>& each) {
    std::vector<uint8_t> reply(kReplyBytes);
    for (;;) {
      const ssize_t n = recv(fd, reply.data(), reply.size(), 0);
      if (n <= 0) return false;
      size_t left = size_t(n);
      for (auto* m = reinterpret_cast<nlmsghdr*>(reply.data()); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
        if (m->nlmsg_type == NLMSG_DONE) return true;
        if (m->nlmsg_type == NLMSG_ERROR) return reinterpret_cast<const nlmsgerr*>(NLMSG_DATA(m))->error == 0;
        each(m);
        if (!(m->nlmsg_flags & NLM_F_MULTI)) return true;
      }
    }
  }
  alignas(nlmsghdr) uint8_t bytes_[512] = {};
};

void each_of(const rtattr* a, size_t left, const std::function<void(const rtattr*)>& each) {
  for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) each(a);
}

template <typename Body>
void each_attribute(const nlmsghdr* m, const std::function<void(const rtattr*)>& each) {
  each_of(reinterpret_cast<const rtattr*>(static_cast<const uint8_t*>(NLMSG_DATA(m)) + NLMSG_ALIGN(sizeof(Body))), NLMSG_PAYLOAD(m, sizeof(Body)), each);
}

uint32_t as_u32(const rtattr* a) {
  uint32_t v = 0;
  std::memcpy(&v, RTA_DATA(a), std::min<size_t>(sizeof v, RTA_PAYLOAD(a)));
  return v;
}

std::optional<Address> as_address(const rtattr* a) {
  const auto* p = static_cast<const uint8_t*>(RTA_DATA(a));
  if (RTA_PAYLOAD(a) == 4) return Address::from_ipv4(p);
  if (RTA_PAYLOAD(a) == 16) return Address::from_ipv6(p);
  return std::nullopt;
}

bool link_local(const Address& a) { return a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80; }

}  // namespace

std::optional<Interface> interface_by_name(const std::string& name) {
  const unsigned index = if_nametoindex(name.c_str());
  if (!index) return std::nullopt;
  Interface result;
  result.name = name;
  result.index = index;
  ifinfomsg link{};
  link.ifi_index = int(index);
  const bool ok = Request(RTM_GETLINK, 0, link).ask([&](const nlmsghdr* m) {
    const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(m));
    result.up = info->ifi_flags & IFF_UP;
    result.carrier = info->ifi_flags & IFF_RUNNING;
    result.loopback = info->ifi_flags & IFF_LOOPBACK;
    each_attribute<ifinfomsg>(m, [&](const rtattr* a) {
      if (a->rta_type == IFLA_MTU) result.mtu = as_u32(a);
      if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6) std::memcpy(result.mac.bytes.data(), RTA_DATA(a), 6);
    });
  });
  if (!ok) return std::nullopt;
  ifaddrmsg query{};
  Request(RTM_GETADDR, NLM_F_DUMP, query).ask([&](const nlmsghdr* m) {
    const auto* info = static_cast<const ifaddrmsg*>(NLMSG_DATA(m));
    if (info->ifa_index != index) return;
    std::optional<Address> address, local;
    each_attribute<ifaddrmsg>(m, [&](const rtattr* a) {
      if (a->rta_type == IFA_ADDRESS) address = as_address(a);
      if (a->rta_type == IFA_LOCAL) local = as_address(a);  // on point-to-point links IFA_ADDRESS is the peer's
    });
    if (local) address = local;
    if (address) result.addresses.push_back(*address);
  });
  std::stable_sort(result.addresses.begin(), result.addresses.end(), [](const Address& a, const Address& b) {
    auto rank = [](const Address& x) { return x.is_ipv4() ? 0 : link_local(x) ? 2 : 1; };
    return rank(a) < rank(b);
  });
  return result;
}

std::optional<Route> route_to(const Address& destination, uint32_t interface_index) {
  rtmsg query{};
  query.rtm_family = destination.is_ipv4() ? AF_INET : AF_INET6;
  query.rtm_dst_len = destination.is_ipv4() ? 32 : 128;
  Request request(RTM_GETROUTE, 0, query);
  request.attribute(RTA_DST, destination);
  if (interface_index) request.attribute(RTA_OIF, &interface_index, sizeof interface_index);
  Route route;
  route.next_hop = destination;
  bool unreachable = false;
  const bool ok = request.ask([&](const nlmsghdr* m) {
    const auto* info = static_cast<const rtmsg*>(NLMSG_DATA(m));
    unreachable = info->rtm_type == RTN_UNREACHABLE || info->rtm_type == RTN_BLACKHOLE || info->rtm_type == RTN_PROHIBIT;
    each_attribute<rtmsg>(m, [&](const rtattr* a) {
      if (a->rta_type == RTA_OIF) route.interface_index = as_u32(a);
      if (a->rta_type == RTA_GATEWAY) route.next_hop = as_address(a).value_or(destination);
      if (a->rta_type == RTA_PREFSRC) route.source = as_address(a);
      if (a->rta_type != RTA_METRICS) return;
      each_of(static_cast<const rtattr*>(RTA_DATA(a)), RTA_PAYLOAD(a), [&](const rtattr* metric) {
        if (metric->rta_type == RTAX_MTU) route.mtu = as_u32(metric);
      });
    });
  });
  if (!ok || unreachable || route.interface_index == 0) return std::nullopt;
  return route;
}

void solicit(const Address& neighbour, const std::string& interface) {
  constexpr uint16_t kDiscardPort = 9;
  const int fd = socket(neighbour.is_ipv4() ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  if (interface.empty() || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(), socklen_t(interface.size())) == 0) {
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    v4.sin_family = AF_INET;
    v6.sin6_family = AF_INET6;
    v4.sin_port = v6.sin6_port = htons(kDiscardPort);
    if (neighbour.is_ipv4()) std::memcpy(&v4.sin_addr, neighbour.ipv4(), 4);
    else std::memcpy(&v6.sin6_addr, neighbour.bytes.data(), 16);
    const bool ipv4 = neighbour.is_ipv4();
    (void)sendto(fd, nullptr, 0, 0, ipv4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6), ipv4 ? sizeof v4 : sizeof v6);
  }
  close(fd);
}

std::optional<Mac> neighbour(uint32_t interface_index, const Address& address) {
  ndmsg query{};
  query.ndm_family = address.is_ipv4() ? AF_INET : AF_INET6;
  query.ndm_ifindex = int(interface_index);
  std::optional<Mac> mac;
  Request(RTM_GETNEIGH, NLM_F_DUMP, query).ask([&](const nlmsghdr* m) {
    const auto* info = static_cast<const ndmsg*>(NLMSG_DATA(m));
    constexpr uint16_t kUsable = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
    if (uint32_t(info->ndm_ifindex) != interface_index || !(info->ndm_state & kUsable)) return;
    std::optional<Address> at;
    std::optional<Mac> found;
    each_attribute<ndmsg>(m, [&](const rtattr* a) {
      if (a->rta_type == NDA_DST) at = as_address(a);
      if (a->rta_type == NDA_LLADDR && RTA_PAYLOAD(a) == 6) {
        found.emplace();
        std::memcpy(found->bytes.data(), RTA_DATA(a), 6);
      }
    });
    if (at == address && found) mac = found;
  });
  return mac;
}

}  // namespace weir::netlink
