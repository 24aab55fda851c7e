#include "capture/tap_ring.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace weir {

std::string TapRing::open(const std::string& interface, const sock_fprog& filter, uint32_t megabytes) {
  interface_ = interface;
  auto failed = [&](const char* what) { return "interface " + interface_ + ": " + what + ": " + std::strerror(errno); };
  const unsigned index = if_nametoindex(interface.c_str());
  if (!index) return "interface " + interface + ": there is no such interface";
  fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return errno == EPERM ? "interface " + interface_ + ": a packet socket needs CAP_NET_RAW" : failed("socket");
  ifreq request{};
  std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
  if (ioctl(fd_, SIOCGIFFLAGS, &request) == 0) loopback_ = request.ifr_flags & IFF_LOOPBACK;

  const int version = TPACKET_V3, one = 1;
  if (setsockopt(fd_, SOL_PACKET, PACKET_VERSION, &version, sizeof version)) return failed("PACKET_VERSION");
  if (setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) return failed("PACKET_VNET_HDR");
  if (setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) return failed("SO_ATTACH_FILTER");
  blocks_ = megabytes;
  tpacket_req3 ring{};
  ring.tp_block_size = kBlockBytes;
  ring.tp_block_nr = blocks_;
  ring.tp_frame_size = 1 << 17;
  ring.tp_frame_nr = ring.tp_block_size / ring.tp_frame_size * ring.tp_block_nr;
  ring.tp_retire_blk_tov = 20;  // ms: how late a viewer at the end of a pipe sees a lone frame
  if (setsockopt(fd_, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring)) return failed("PACKET_RX_RING");
  map_bytes_ = size_t(kBlockBytes) * blocks_;
  void* map = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (map == MAP_FAILED) return failed("mmap of the ring");
  map_ = static_cast<uint8_t*>(map);

  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = int(index);
  if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address)) return failed("bind");
  return {};
}

TapRing::~TapRing() {
  if (map_) munmap(map_, map_bytes_);
  if (fd_ >= 0) close(fd_);
}

uint32_t TapRing::receive(const Take& take) {
  auto* block = reinterpret_cast<tpacket_block_desc*>(map_ + size_t(block_) * kBlockBytes);
  if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) return 0;
  const uint32_t frames = block->hdr.bh1.num_pkts;
  uint8_t* header = reinterpret_cast<uint8_t*>(block) + block->hdr.bh1.offset_to_first_pkt;
  for (uint32_t i = 0; i < frames; i++) {
    const auto* h = reinterpret_cast<const tpacket3_hdr*>(header);
    const auto* from = reinterpret_cast<const sockaddr_ll*>(header + TPACKET_ALIGN(sizeof(tpacket3_hdr)));
    const uint32_t next = h->tp_next_offset;
    TappedFrame tapped;
    tapped.outgoing = from->sll_pkttype == PACKET_OUTGOING;
    tapped.time_ns = uint64_t(h->tp_sec) * 1'000'000'000 + h->tp_nsec;
    tapped.frame.bytes = header + h->tp_mac;
    tapped.frame.length = h->tp_snaplen;
    tapped.frame.wire_length = h->tp_len;
    std::memcpy(&tapped.frame.offload, tapped.frame.bytes - sizeof(Offload), sizeof(Offload));
    take(tapped);
    header += next;
  }
  __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  block_ = (block_ + 1) % blocks_;
  return frames;
}

uint64_t TapRing::dropped() const {
  tpacket_stats_v3 stats{};
  socklen_t size = sizeof stats;
  return getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0 ? stats.tp_drops : 0;
}

std::string TapRing::failure() const {
  pollfd state{fd_, 0, 0};
  if (poll(&state, 1, 0) <= 0 || !(state.revents & (POLLERR | POLLHUP | POLLNVAL))) return {};
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  return error ? "interface " + interface_ + ": " + std::strerror(error) : std::string();
}

}  // namespace weir
