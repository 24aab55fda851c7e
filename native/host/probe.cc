#include "host/probe.h"

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/frame.h"
#include "wire/bytes.h"
#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

template <typename Value>
int option(int fd, int level, int name, const Value& value) {
  return setsockopt(fd, level, name, &value, sizeof value) ? errno : 0;
}

int bind_loopback(int fd, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = int(if_nametoindex("lo"));
  return bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) ? errno : 0;
}

// One write that stands for two datagrams, from and to the discard port of nobody.
int send_super_frame(int fd) {
  constexpr uint32_t kSize = 32, kHeaders = kEthernetHeader + kIpv4Header + 8;
  uint8_t frame[kHeaders + 2 * kSize] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
  store16(frame + 12, kEtherIpv4);
  uint8_t* ip = frame + kEthernetHeader;
  ip[0] = 0x45;
  store16(ip + 2, uint16_t(sizeof frame - kEthernetHeader));
  ip[8] = 1;
  ip[9] = 17;
  ip[12] = ip[16] = 127;
  ip[15] = ip[19] = 1;
  Ipv4::finish(ip);
  uint8_t* udp = ip + kIpv4Header;
  store16(udp, 9);
  store16(udp + 2, 9);
  store16(udp + 4, 8 + 2 * kSize);
  Offload offload;
  offload.flags = Offload::kNeedsChecksum;
  offload.gso_type = Offload::kGsoUdp;
  offload.gso_size = kSize;
  offload.header_length = kHeaders;
  offload.checksum_start = kEthernetHeader + kIpv4Header;
  offload.checksum_offset = 6;
  iovec pieces[2] = {{&offload, sizeof offload}, {frame, sizeof frame}};
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  return sendmsg(fd, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

}  // namespace

std::vector<Probe> probe_kernel() {
  std::vector<Probe> found;
  auto tell = [&](const char* feature, int error) { found.push_back({feature, error}); };
  const int one = 1;

  const Descriptor receiver(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  tell("packet_socket", receiver.get() < 0 ? errno : 0);
  if (receiver.get() >= 0) {
    tell("tpacket_v2", option(receiver.get(), SOL_PACKET, PACKET_VERSION, int(TPACKET_V2)));
    tell("vnet_hdr", option(receiver.get(), SOL_PACKET, PACKET_VNET_HDR, one));
    tell("ignore_outgoing", option(receiver.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, one));
    sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    tell("socket_filter", option(receiver.get(), SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog{1, nothing}));
    tpacket_req ring{};
    ring.tp_block_size = 1 << 19;
    ring.tp_block_nr = 2;
    ring.tp_frame_size = 1 << 14;
    ring.tp_frame_nr = 64;
    tell("receive_ring", option(receiver.get(), SOL_PACKET, PACKET_RX_RING, ring));
    const int bound = bind_loopback(receiver.get(), ETH_P_ALL);
    const int by_program_with_unique_id = (PACKET_FANOUT_CBPF | 0x2000) << 16;
    tell("fanout", bound ? bound : option(receiver.get(), SOL_PACKET, PACKET_FANOUT, by_program_with_unique_id));
  }
  const Descriptor sender(receiver.get() < 0 ? -1 : socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (sender.get() >= 0) {
    tell("qdisc_bypass", option(sender.get(), SOL_PACKET, PACKET_QDISC_BYPASS, one));
    option(sender.get(), SOL_PACKET, PACKET_VNET_HDR, one);
    const int bound = bind_loopback(sender.get(), 0);
    // The kernel's own queue may cut what the device can't: that is the way to ask for.
    option(sender.get(), SOL_PACKET, PACKET_QDISC_BYPASS, 0);
    tell("udp_super_frames", bound ? bound : send_super_frame(sender.get()));
  }
  const Descriptor udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr int kUdpSegment = 103, kUdpGro = 104;
  tell("udp_segment", option(udp.get(), IPPROTO_UDP, kUdpSegment, int(1400)));
  tell("udp_gro", option(udp.get(), IPPROTO_UDP, kUdpGro, one));
  const Descriptor memory(memfd_create("weir-doctor", MFD_CLOEXEC));
  tell("memfd", memory.get() < 0 ? errno : 0);
  constexpr size_t kHuge = 2 << 20;
  void* pages = mmap(nullptr, 2 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  tell("huge_pages", pages == MAP_FAILED || madvise(pages, 2 * kHuge, MADV_HUGEPAGE) ? errno : 0);
  if (pages != MAP_FAILED) munmap(pages, 2 * kHuge);
  return found;
}

std::optional<Offloads> interface_offloads(const std::string& name) {
  if (name.size() >= IFNAMSIZ || !if_nametoindex(name.c_str())) return std::nullopt;
  const Descriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto ask = [&](uint32_t command) -> uint32_t {
    ethtool_value value{};
    value.cmd = command;
    ifreq request{};
    std::memcpy(request.ifr_name, name.c_str(), name.size());
    request.ifr_data = reinterpret_cast<char*>(&value);
    return ioctl(fd.get(), SIOCETHTOOL, &request) ? 0 : value.data;
  };
  Offloads o;
  o.rx_checksum = ask(ETHTOOL_GRXCSUM);
  o.tx_checksum = ask(ETHTOOL_GTXCSUM);
  o.tso = ask(ETHTOOL_GTSO);
  o.gso = ask(ETHTOOL_GGSO);
  o.gro = ask(ETHTOOL_GGRO);
  o.lro = ask(ETHTOOL_GFLAGS) & ETH_FLAG_LRO;
  return o;
}

}  // namespace weir
