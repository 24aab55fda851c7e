#include "port/ring_port.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "engine/cut_frame.h"
#include "engine/frame_collector.h"
#include "wire/ethernet.h"
#include "wire/geneve.h"
#include "wire/vxlan_nsh.h"

namespace weir {
namespace {

// UDP over IPv4 (unfragmented, any options) or IPv6 (no extension headers) to port 4790 or 6081.
sock_filter kStampedOnly[] = {
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv4, 0, 6),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 11),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 9, 0),
    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
    BPF_JUMP(BPF_JMP | BPF_JA, 4, 0, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv6, 0, 6),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 4),
    BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
    BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kVxlanGpePort, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kGenevePort, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_STMT(BPF_RET | BPF_K, 0x40000),
};

}  // namespace

std::variant<std::unique_ptr<RingPort>, std::string> RingPort::open(const RingOptions& options) {
  std::unique_ptr<RingPort> port(new RingPort());
  if (std::string error = port->set_up(options); !error.empty()) return error;
  return port;
}

std::string RingPort::set_up(const RingOptions& options) {
  interface_ = options.interface;
  auto failed = [&](const char* what) { return "interface " + interface_ + ": " + what + ": " + std::strerror(errno); };
  const unsigned index = if_nametoindex(interface_.c_str());
  if (!index) return "interface " + interface_ + ": there is no such interface";
  // Protocol 0 takes nothing in until bind() names interface and protocol together.
  fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return errno == EPERM ? "interface " + interface_ + ": a packet socket needs CAP_NET_RAW" : failed("socket");

  const int version = TPACKET_V3, one = 1, reserve = kReserve;
  if (setsockopt(fd_, SOL_PACKET, PACKET_VERSION, &version, sizeof version)) return failed("PACKET_VERSION");
  if (setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one)) return failed("PACKET_VNET_HDR");
  if (setsockopt(fd_, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof reserve)) return failed("PACKET_RESERVE");
  if (setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one)) return failed("PACKET_IGNORE_OUTGOING");
  bypass_ = setsockopt(fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0;  // only faster: do without where it is refused
  // Until a socket has joined its fanout group it would get every frame of the interface: let it take none.
  sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog stamped{sizeof kStampedOnly / sizeof *kStampedOnly, kStampedOnly}, nothing{1, none};
  if (options.fanout || options.stamped_only)
    if (setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, options.fanout ? &nothing : &stamped, sizeof stamped)) return failed("SO_ATTACH_FILTER");

  blocks_ = options.megabytes * ((1 << 20) / kBlockBytes);
  tpacket_req3 ring{};
  ring.tp_block_size = kBlockBytes;
  ring.tp_block_nr = blocks_;
  ring.tp_frame_size = 1 << 17;
  ring.tp_frame_nr = ring.tp_block_size / ring.tp_frame_size * ring.tp_block_nr;
  ring.tp_retire_blk_tov = 1;  // ms
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
  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = int(index);
  promiscuous.mr_type = PACKET_MR_PROMISC;
  if (setsockopt(fd_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous)) return failed("PACKET_ADD_MEMBERSHIP");

  if (options.fanout) {
    if (std::string error = join_fanout(options); !error.empty()) return error;
    const int ignored = 0;
    if (options.stamped_only ? setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &stamped, sizeof stamped)
                             : setsockopt(fd_, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof ignored))
      return failed("SO_ATTACH_FILTER");
  }

  if (std::string error = open_plain(int(index)); !error.empty()) return error;
  messages_.resize(kBatch);
  pieces_.resize(kPieces);
  offloads_.resize(kBatch);
  return {};
}

std::string RingPort::join_fanout(const RingOptions& options) {
  constexpr int kUniqueId = 0x2000;  // PACKET_FANOUT_FLAG_UNIQUEID: the kernel finds a group number that is free
  int value = options.fanout_group ? int(*options.fanout_group) | PACKET_FANOUT_HASH << 16 : (PACKET_FANOUT_HASH | kUniqueId) << 16;
  if (setsockopt(fd_, SOL_PACKET, PACKET_FANOUT, &value, sizeof value))
    return "interface " + interface_ + ": PACKET_FANOUT: " + std::strerror(errno) + " (workers: 1 does without it)";
  socklen_t size = sizeof value;
  if (getsockopt(fd_, SOL_PACKET, PACKET_FANOUT, &value, &size)) return "interface " + interface_ + ": PACKET_FANOUT: " + std::strerror(errno);
  fanout_group_ = uint16_t(value);
  return {};
}

// A second socket that only sends.
std::string RingPort::open_plain(int interface_index) {
  const int one = 1;
  plain_fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (plain_fd_ < 0) return "interface " + interface_ + ": socket: " + std::strerror(errno);
  setsockopt(plain_fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = interface_index;
  if (bind(plain_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address)) return "interface " + interface_ + ": bind: " + std::strerror(errno);
  return {};
}

RingPort::~RingPort() {
  if (plain_fd_ >= 0) close(plain_fd_);
  if (map_) munmap(map_, map_bytes_);
  if (fd_ >= 0) close(fd_);
}

Frame RingPort::frame_at(uint8_t* header) {
  const auto* h = reinterpret_cast<const tpacket3_hdr*>(header);
  Frame frame;
  frame.bytes = header + h->tp_mac;
  frame.length = h->tp_snaplen;
  frame.wire_length = h->tp_len;
  std::memcpy(&frame.offload, frame.bytes - sizeof(Offload), sizeof(Offload));
  // What lies between our own headers (tpacket3_hdr, sockaddr_ll) and the frame is ours to write.
  constexpr uint32_t kOwn = TPACKET_ALIGN(sizeof(tpacket3_hdr)) + sizeof(sockaddr_ll);
  frame.headroom = h->tp_mac > kOwn ? h->tp_mac - kOwn : 0;
  if ((h->tp_status & TP_STATUS_VLAN_VALID) && frame.length >= 12 && frame.headroom >= kVlanTag) {
    // The kernel keeps the tag beside the frame: put it back where it was on the wire.
    const uint16_t tpid = (h->tp_status & TP_STATUS_VLAN_TPID_VALID) ? h->hv1.tp_vlan_tpid : kEtherVlan;
    std::memmove(frame.bytes - kVlanTag, frame.bytes, 12);
    frame.bytes -= kVlanTag;
    store16(frame.bytes + 12, tpid);
    store16(frame.bytes + 14, uint16_t(h->hv1.tp_vlan_tci));
    frame.length += kVlanTag;
    frame.wire_length += kVlanTag;
    frame.headroom -= kVlanTag;
    if (frame.offload.header_length) frame.offload.header_length += kVlanTag;
    if (frame.offload.needs_checksum()) frame.offload.checksum_start += kVlanTag;
  }
  return frame;
}

uint32_t RingPort::receive(PortId id, Receiver& receiver) {
  release();
  auto* block = reinterpret_cast<tpacket_block_desc*>(map_ + size_t(block_) * kBlockBytes);
  if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) return 0;
  open_block_ = block;
  const uint32_t frames = block->hdr.bh1.num_pkts;
  uint64_t bytes = 0;
  uint8_t* header = reinterpret_cast<uint8_t*>(block) + block->hdr.bh1.offset_to_first_pkt;
  std::array<Frame, Receiver::kMostFrames> group;
  uint32_t n = 0;
  for (uint32_t i = 0; i < frames; i++) {
    // Read before the frame is given away: the pipeline may write into the room before it.
    const uint32_t next = reinterpret_cast<const tpacket3_hdr*>(header)->tp_next_offset;
    __builtin_prefetch(header + next);
    __builtin_prefetch(header + next + kReserve);
    // Kernels before 6.4 give a fanout group what we send, too.
    const auto* from = reinterpret_cast<const sockaddr_ll*>(header + TPACKET_ALIGN(sizeof(tpacket3_hdr)));
    if (from->sll_pkttype != PACKET_OUTGOING) {
      group[n] = frame_at(header);
      bytes += group[n++].length;
    }
    if (n == group.size() || (n && i + 1 == frames)) {
      receiver.receive(id, {group.data(), n});
      n = 0;
    }
    header += next;
  }
  rx_frames_.add(frames);
  rx_bytes_.add(bytes);
  return frames;
}

void RingPort::release() {
  if (!open_block_) return;
  __atomic_store_n(&open_block_->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  open_block_ = nullptr;
  block_ = (block_ + 1) % blocks_;
}

void RingPort::send(const OutFrame& frame) {
  const uint32_t pieces = uint32_t(frame.pieces.size()) + 1;
  if (queued_ == kBatch || queued_pieces_ + pieces > kPieces) flush();
  offloads_[queued_] = frame.offload;
  iovec* io = &pieces_[queued_pieces_];
  io[0] = {&offloads_[queued_], sizeof(Offload)};
  for (uint32_t i = 1; i < pieces; i++) io[i] = {const_cast<uint8_t*>(frame.pieces[i - 1].bytes), frame.pieces[i - 1].length};
  msghdr& message = messages_[queued_].msg_hdr;
  message = {};
  message.msg_iov = io;
  message.msg_iovlen = pieces;
  queued_offload_ |= frame.offload.flags != 0 || frame.offload.gso_type != Offload::kGsoNone;
  queued_++;
  queued_pieces_ += pieces;
}

void RingPort::flush() {
  const bool plain = !queued_offload_;
  if (plain) {
    for (uint32_t i = 0; i < queued_; i++) {
      messages_[i].msg_hdr.msg_iov++;
      messages_[i].msg_hdr.msg_iovlen--;
    }
  }
  const int fd = plain ? plain_fd_ : fd_;
  for (uint32_t sent = 0; sent < queued_;) {
    const int n = sendmmsg(fd, &messages_[sent], queued_ - sent, MSG_DONTWAIT);
    if (n > 0) {
      uint64_t bytes = 0;
      for (int i = 0; i < n; i++) bytes += messages_[sent + uint32_t(i)].msg_len - (plain ? 0 : sizeof(Offload));
      tx_frames_.add(uint64_t(n));
      tx_bytes_.add(bytes);
      sent += uint32_t(n);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == ENOBUFS && bypass_ && offloads_[sent].gso() != Offload::kGsoNone) {
      // Past the queueing discipline the kernel drops what the device can't cut by itself; on the common way it cuts it.
      const int off = 0;
      setsockopt(fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &off, sizeof off);
      bypass_ = false;
      continue;
    }
    if (errno == EINVAL && !plain && send_cut(sent)) {
      sent++;
      continue;
    }
    if (errno == EAGAIN) {  // the socket's send buffer is full: give the device a moment, once
      pollfd wait{fd, POLLOUT, 0};
      if (poll(&wait, 1, 1) > 0 && (wait.revents & POLLOUT) && !(wait.revents & POLLERR)) continue;
    }
    tx_errors_++;  // this frame is lost (device queue full, too long for the device, …); the next may do better
    sent++;
  }
  queued_ = queued_pieces_ = 0;
  queued_offload_ = false;
}

// The kernel does not take a super-frame: from now on none of its kind comes here, and this one goes in pieces.
bool RingPort::send_cut(uint32_t queued) {
  const Offload& offload = offloads_[queued];
  if (offload.gso() == Offload::kGsoNone) return false;
  refused_.fetch_or(1u << offload.gso(), std::memory_order_relaxed);
  std::vector<Piece> pieces;
  const msghdr& message = messages_[queued].msg_hdr;
  for (size_t i = 1; i < message.msg_iovlen; i++)
    pieces.push_back({static_cast<const uint8_t*>(message.msg_iov[i].iov_base), uint32_t(message.msg_iov[i].iov_len)});
  FrameCollector cut;
  if (!cut_frame({0, offload, pieces}, cut, [&](const OutFrame& frame) { cut.emit(frame); })) return false;
  for (CollectedFrame& frame : cut.frames()) {
    iovec io[2] = {{&frame.offload, sizeof(Offload)}, {frame.bytes.data(), frame.bytes.size()}};
    msghdr one{};
    one.msg_iov = io;
    one.msg_iovlen = 2;
    if (sendmsg(fd_, &one, 0) < 0) {
      tx_errors_++;
    } else {
      tx_frames_++;
      tx_bytes_.add(frame.bytes.size());
    }
  }
  return true;
}

PortCounters RingPort::counters() const {
  // The kernel zeroes its count at each reading.
  tpacket_stats_v3 stats{};
  socklen_t size = sizeof stats;
  if (getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0) rx_dropped_.add(stats.tp_drops);
  return {rx_frames_.get(), rx_bytes_.get(), rx_dropped_.get(), tx_frames_.get(), tx_bytes_.get(), tx_errors_.get(), refused_.load(std::memory_order_relaxed) != 0 || !bypass_};
}

std::string RingPort::failure() const {
  pollfd state{fd_, 0, 0};
  if (poll(&state, 1, 0) <= 0 || !(state.revents & (POLLERR | POLLHUP | POLLNVAL))) return {};
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error == 0) return {};
  return "interface " + interface_ + ": " + std::strerror(error);
}

}  // namespace weir
