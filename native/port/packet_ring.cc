#include "port/packet_ring.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "wire/ethernet.h"

namespace weir {
namespace {

std::string failed(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

// Only frames of the ring's lengths, then whatever else is asked. Where a group divides frames by length, also shorter ones, so that one that
// it took for longer than it is gets lost nowhere.
std::vector<sock_filter> with_lengths(RingShape shape, Sharing sharing, std::span<const sock_filter> rest) {
  if (sharing == Sharing::by_length) shape.shortest = 0;
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, shape.shortest, 0, 1),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, shape.longest, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  if (rest.empty()) filter.push_back(BPF_STMT(BPF_RET | BPF_K, 0xffffffff));
  filter.insert(filter.end(), rest.begin(), rest.end());
  return filter;
}

}  // namespace

PacketRing::~PacketRing() {
  if (map_) munmap(map_, map_bytes_);
  if (fd_ >= 0) close(fd_);
}

std::string PacketRing::open(const Place& place, const RingShape& shape) {
  // Protocol 0 takes nothing in until bind() names interface and protocol together.
  fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return errno == EPERM ? "a packet socket needs CAP_NET_RAW" : failed("socket");
  const int version = TPACKET_V2, one = 1, reserve = kReserve;
  if (setsockopt(fd_, SOL_PACKET, PACKET_VERSION, &version, sizeof version)) return failed("PACKET_VERSION");
  if (setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) return failed("PACKET_VNET_HDR");
  if (setsockopt(fd_, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof reserve)) return failed("PACKET_RESERVE");
  if (setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)) return failed("PACKET_IGNORE_OUTGOING");
  bypass_ = setsockopt(fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0;  // only faster: do without where it is refused

  slot_bytes_ = shape.slot_bytes;
  slots_a_block_ = kBlockBytes / slot_bytes_;
  tpacket_req ring{};
  ring.tp_block_size = kBlockBytes;
  ring.tp_block_nr = std::max(shape.slots / slots_a_block_, 1u);
  ring.tp_frame_size = slot_bytes_;
  ring.tp_frame_nr = slots_ = slots_a_block_ * ring.tp_block_nr;
  if (setsockopt(fd_, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring)) return failed("PACKET_RX_RING");
  if (std::string error = map_blocks(ring.tp_block_nr); !error.empty()) return error;
  return filter_and_join(place, shape);
}

std::string PacketRing::map_blocks(uint32_t blocks) {
  map_bytes_ = size_t(kBlockBytes) * blocks;
  void* map = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (map == MAP_FAILED) return failed("mmap of the ring");
  map_ = static_cast<uint8_t*>(map);
  return {};
}

std::string PacketRing::adopt(unsigned interface_index, const RingState& state) {
  fd_ = state.descriptor;
  sockaddr_ll address{};
  socklen_t size = sizeof address;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sll_family != AF_PACKET) return "what was handed over is no packet socket";
  if (!interface_index || address.sll_ifindex != int(interface_index)) return "it is another one than the ring handed over is for";
  if (state.slot_bytes < kOverhead || state.slot_bytes > kBlockBytes) return "the ring handed over has another shape";
  slot_bytes_ = state.slot_bytes;
  slots_a_block_ = kBlockBytes / slot_bytes_;
  slots_ = state.slots;
  if (!slots_ || slots_ % slots_a_block_ || slots_ / slots_a_block_ > 4096) return "the ring handed over has another shape";
  group_ = state.group;
  continue_at(state.head);
  return map_blocks(slots_ / slots_a_block_);
}

std::string PacketRing::take_only(const RingShape& shape, std::span<const sock_filter> filter) {
  int group = 0;
  socklen_t size = sizeof group;
  if (getsockopt(fd_, SOL_PACKET, PACKET_FANOUT, &group, &size)) return failed("PACKET_FANOUT");
  std::vector<sock_filter> own = with_lengths(shape, (group >> 16 & 0xff) == PACKET_FANOUT_CBPF ? Sharing::by_length : Sharing::alone, filter);
  const sock_fprog wanted{uint16_t(own.size()), own.data()};
  return setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &wanted, sizeof wanted) ? failed("SO_ATTACH_FILTER") : "";
}

std::string PacketRing::filter_and_join(const Place& place, const RingShape& shape) {
  const bool shared = place.sharing != Sharing::alone;
  std::vector<sock_filter> own = with_lengths(shape, place.sharing, place.filter);
  // Until a socket has joined its fanout group it would get every frame of the interface: let it take none.
  sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog wanted{uint16_t(own.size()), own.data()}, nothing{1, none};
  if (setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, shared ? &nothing : &wanted, sizeof wanted)) return failed("SO_ATTACH_FILTER");

  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = int(place.index);
  if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address)) return failed("bind");
  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = int(place.index);
  promiscuous.mr_type = PACKET_MR_PROMISC;
  if (setsockopt(fd_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous)) return failed("PACKET_ADD_MEMBERSHIP");
  if (!shared) return {};

  constexpr int kUniqueId = 0x2000;        // PACKET_FANOUT_FLAG_UNIQUEID: the kernel finds a group number that is free
  constexpr int kIgnoreOutgoing = 0x4000;  // PACKET_FANOUT_FLAG_IGNORE_OUTGOING: a group doesn't do as its sockets do; older kernels ignore it
  const int how = kIgnoreOutgoing | (place.sharing == Sharing::by_stream ? PACKET_FANOUT_HASH : PACKET_FANOUT_CBPF);
  int value = place.group ? int(*place.group) | how << 16 : (how | kUniqueId) << 16;
  if (setsockopt(fd_, SOL_PACKET, PACKET_FANOUT, &value, sizeof value)) return failed("PACKET_FANOUT") + (place.sharing == Sharing::by_stream ? " (workers: 1 does without it)" : "");
  socklen_t size = sizeof value;
  if (getsockopt(fd_, SOL_PACKET, PACKET_FANOUT, &value, &size)) return failed("PACKET_FANOUT");
  group_ = uint16_t(value);
  if (setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &wanted, sizeof wanted)) return failed("SO_ATTACH_FILTER");
  return {};
}

std::string PacketRing::divide(std::span<const uint32_t> longest) {
  // The kernel asks before it has put the link header back in front, so a frame is longer than it seems.
  constexpr uint32_t kLinkHeader = 18;
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0)};
  for (uint32_t ring = 0; ring < longest.size(); ring++) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, longest[ring] - kLinkHeader, 1, 0));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, ring));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, uint32_t(longest.size())));
  const sock_fprog wanted{uint16_t(program.size()), program.data()};
  return setsockopt(fd_, SOL_PACKET, PACKET_FANOUT_DATA, &wanted, sizeof wanted) ? failed("PACKET_FANOUT_DATA") : "";
}

bool PacketRing::frame(uint32_t i, Frame& frame) const {
  tpacket2_hdr* h = header(i);
  auto* start = reinterpret_cast<uint8_t*>(h);
  if (reinterpret_cast<const sockaddr_ll*>(start + TPACKET_ALIGN(sizeof *h))->sll_pkttype == PACKET_OUTGOING) return false;
  frame.bytes = start + h->tp_mac;
  frame.length = h->tp_snaplen;
  frame.wire_length = h->tp_len;
  std::memcpy(&frame.offload, frame.bytes - sizeof(Offload), sizeof(Offload));
  // What lies between our own headers (tpacket2_hdr, sockaddr_ll) and the frame is ours to write.
  constexpr uint32_t kOwn = TPACKET_ALIGN(sizeof(tpacket2_hdr)) + sizeof(sockaddr_ll);
  frame.headroom = h->tp_mac > kOwn ? h->tp_mac - kOwn : 0;
  frame.offload_unknown = false;
  if ((h->tp_status & TP_STATUS_VLAN_VALID) && frame.length >= 12 && frame.headroom >= kVlanTag) {
    // The kernel keeps the tag beside the frame: put it back where it was on the wire.
    const uint16_t tpid = (h->tp_status & TP_STATUS_VLAN_TPID_VALID) ? h->tp_vlan_tpid : kEtherVlan;
    std::memmove(frame.bytes - kVlanTag, frame.bytes, 12);
    frame.bytes -= kVlanTag;
    store16(frame.bytes + 12, tpid);
    store16(frame.bytes + 14, h->tp_vlan_tci);
    frame.length += kVlanTag;
    frame.wire_length += kVlanTag;
    frame.headroom -= kVlanTag;
    if (frame.offload.header_length) frame.offload.header_length += kVlanTag;
    if (frame.offload.needs_checksum()) frame.offload.checksum_start += kVlanTag;
  }
  return true;
}

void PacketRing::release(uint32_t n) {
  for (uint32_t i = 0; i < n; i++) __atomic_store_n(&header(i)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  head_ = (head_ + n) % slots_;
}

uint64_t PacketRing::dropped() const {
  tpacket_stats stats{};
  socklen_t size = sizeof stats;
  return getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0 ? stats.tp_drops : 0;
}

}  // namespace weir
