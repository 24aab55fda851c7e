#include "port/ring_port.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <net/if.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
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

// UDP over IPv4 (unfragmented, any options) or IPv6 (no extension headers) to or from port 4790 or 6081, and ICMP and ICMPv6
// "unreachable" (with "fragmentation needed") and ICMPv6 "packet too big" that quote a packet to such a port.
constexpr sock_filter kStampedOnly[] = {
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv4, 0, 12),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 28, 0),
    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 19, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 24),  // ICMP
    BPF_STMT(BPF_LD | BPF_B | BPF_IND, 14),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 22),
    BPF_STMT(BPF_LD | BPF_B | BPF_IND, 14 + 8 + 9),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 20),
    BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14 + 8 + 20 + 2),
    BPF_JUMP(BPF_JMP | BPF_JA, 16, 0, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv6, 0, 17),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 8, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 58, 0, 14),  // ICMPv6
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 11),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40 + 8 + 6),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 9),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 14 + 40 + 8 + 40 + 2),
    BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0),
    BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
    BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14 + 2),  // UDP: destination port, source port
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kVxlanGpePort, 5, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kGenevePort, 4, 0),
    BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kVxlanGpePort, 2, 0),  // the last port to look at
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kGenevePort, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_STMT(BPF_RET | BPF_K, 0x40000),
};

// Before that, where fragments are taken: those of UDP, over IPv4 or right behind an IPv6 header.
constexpr sock_filter kFragments[] = {
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv4, 0, 4),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 0, 8),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 5, 6),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherIpv6, 0, 5),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 44, 0, 3),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 0x40000),
};

std::vector<sock_filter> filter_of(const RingOptions& options) {
  std::vector<sock_filter> filter;
  if (!options.stamped_only) return filter;
  if (options.fragments) filter.assign(std::begin(kFragments), std::end(kFragments));
  filter.insert(filter.end(), std::begin(kStampedOnly), std::end(kStampedOnly));
  return filter;
}

// A super-frame has up to 64 KiB and an Ethernet header with tags. Slots of short frames are no power of two: their headers
// would all fall into the same few sets of the cache. Half of the memory is for those, by the number of which bursts come.
constexpr uint32_t kShortSlot = 2112, kMiddleSlot = 16384, kLongSlot = 74896;

std::array<RingShape, kRings> shapes_of(uint32_t megabytes) {
  const uint32_t quarter = megabytes << 18;
  constexpr uint32_t kShort = kShortSlot - PacketRing::kOverhead, kMiddle = kMiddleSlot - PacketRing::kOverhead;
  return {{{0, kShort, kShortSlot, 2 * quarter / kShortSlot}, {kShort + 1, kMiddle, kMiddleSlot, quarter / kMiddleSlot}, {kMiddle + 1, UINT32_MAX, kLongSlot, quarter / kLongSlot}}};
}

}  // namespace

std::variant<std::unique_ptr<RingPort>, std::string> RingPort::open(const RingOptions& options) {
  std::unique_ptr<RingPort> port(new RingPort());
  if (std::string error = port->set_up(options); !error.empty()) return error;
  return port;
}

std::string RingPort::set_up(const RingOptions& options) {
  interface_ = options.interface;
  const unsigned index = if_nametoindex(interface_.c_str());
  if (!index) return "interface " + interface_ + ": there is no such interface";
  index_ = index;
  const std::array<RingShape, kRings> shapes = shapes_of(options.megabytes);
  const std::vector<sock_filter> filter = filter_of(options);
  for (uint32_t r = 0; r < kRings; r++) {
    PacketRing::Place place{interface_.c_str(), index, filter, options.fanout ? Sharing::by_stream : Sharing::by_length, {}};
    if (options.fanout_groups) place.group = (*options.fanout_groups)[r];
    if (!options.fanout && r > 0) place.group = rings_[0].fanout_group();
    std::string error = rings_[r].open(place, shapes[r]);
    if (error.empty() && !options.fanout && r == 0) error = rings_[0].divide(std::array{shapes[0].longest, shapes[1].longest});
    if (!error.empty()) return "interface " + interface_ + ": " + error;
    descriptors_[r] = rings_[r].descriptor();
  }
  fd_ = rings_[0].descriptor();
  bypass_ = rings_[0].bypasses();
  return open_plain(int(index));
}

std::variant<std::unique_ptr<RingPort>, std::string> RingPort::adopt(const RingOptions& options, const RingPortState& state) {
  std::unique_ptr<RingPort> port(new RingPort());
  port->interface_ = options.interface;
  if (std::string error = port->take_up(options, state); !error.empty()) return "interface " + options.interface + ": " + error;
  return port;
}

std::string RingPort::take_up(const RingOptions& options, const RingPortState& state) {
  const std::array<RingShape, kRings> shapes = shapes_of(options.megabytes);
  const std::vector<sock_filter> filter = filter_of(options);
  const unsigned index = if_nametoindex(interface_.c_str());
  std::string error;
  for (uint32_t r = 0; r < kRings; r++) {
    if (std::string problem = rings_[r].adopt(index, state.rings[r]); error.empty()) error = problem;
    if (error.empty() && options.stamped_only) error = rings_[r].take_only(shapes[r], filter);  // an older weir took less
    descriptors_[r] = rings_[r].descriptor();
  }
  if (!error.empty()) return error;
  fd_ = rings_[0].descriptor();
  bypass_ = state.bypass;
  refused_ = state.refused;
  return open_plain(int(index));
}

RingPortState RingPort::state() const {
  RingPortState state{{}, bypass_.load(), refused_.load()};
  for (uint32_t r = 0; r < kRings; r++) state.rings[r] = rings_[r].state();
  return state;
}

void RingPort::continue_at(const std::array<uint32_t, kRings>& heads) {
  for (uint32_t r = 0; r < kRings; r++) rings_[r].continue_at(heads[r]);
}

std::array<uint16_t, kRings> RingPort::fanout_groups() const {
  std::array<uint16_t, kRings> groups;
  for (uint32_t r = 0; r < kRings; r++) groups[r] = rings_[r].fanout_group();
  return groups;
}

// A second socket that only sends, and room for what waits to be sent.
std::string RingPort::open_plain(int interface_index) {
  messages_.resize(kBatch);
  pieces_.resize(kPieces);
  offloads_.resize(kBatch);
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
}

// The kernel fills the rings in the order in which a processor received the frames, so a stream's are put back into order by their times.
// Whatever came before a frame of the first look is in its ring by the second.
uint32_t RingPort::receive(PortId id, Receiver& receiver) {
  release();
  std::array<uint32_t, kRings> first, seen;
  uint32_t frames = 0;
  for (uint32_t r = 0; r < kRings; r++) frames += first[r] = rings_[r].ready(0, kMost[r]);
  if (!frames) return 0;
  doubtful_ = false;
  for (uint32_t r = 0; r < kRings; r++) seen[r] = first[r] == frames ? frames : rings_[r].ready(first[r], kMost[r]);
  return hand_on(id, receiver, first, seen);
}

uint32_t RingPort::hand_on(PortId id, Receiver& receiver, const std::array<uint32_t, kRings>& first, const std::array<uint32_t, kRings>& seen) {
  constexpr uint32_t kAhead = 4;
  constexpr uint64_t kNever = UINT64_MAX;
  uint64_t last = 0, full = kNever;
  std::array<uint64_t, kRings> next;  // when each ring's next frame came
  uint32_t rings = 0;
  for (uint32_t r = 0; r < kRings; r++) {
    next[r] = seen[r] ? rings_[r].came(0) : kNever;
    rings += seen[r] != 0;
    if (first[r]) last = std::max(last, rings_[r].came(first[r] - 1));
    if (seen[r] == kMost[r]) full = std::min(full, rings_[r].came(seen[r] - 1));  // what follows here may be earlier than others' last
  }
  last = std::min(last, full);
  oldest_ns_ = *std::min_element(next.begin(), next.end());
  std::array<Frame, Receiver::kMostFrames> group;
  uint64_t bytes = 0;
  uint32_t frames = 0, n = 0;
  for (;;) {
    uint32_t r = uint32_t(std::min_element(next.begin(), next.end()) - next.begin());
    if (next[r] == kNever || (rings > 1 && next[r] > last)) break;
    PacketRing& ring = rings_[r];
    if (taken_[r] + kAhead < seen[r]) ring.prefetch(taken_[r] + kAhead);
    if (ring.frame(taken_[r], group[n])) bytes += group[n++].length;
    frames++;
    next[r] = ++taken_[r] == seen[r] ? kNever : rings > 1 ? ring.came(taken_[r]) : 0;
    if (n == group.size()) {
      receiver.receive(id, {group.data(), n});
      n = 0;
    }
  }
  if (n) receiver.receive(id, {group.data(), n});
  rx_frames_.add(frames);
  rx_bytes_.add(bytes);
  return frames;
}

void RingPort::release() {
  for (uint32_t r = 0; r < kRings; r++) {
    if (taken_[r]) rings_[r].release(taken_[r]);
    taken_[r] = 0;
  }
}

// Frames that go past the queueing discipline go past the host's taps, too (packet(7), PACKET_QDISC_BYPASS).
void RingPort::show(bool on) {
  shown_ = on;
  const int whole = !on && bypass_, plain = !on;
  setsockopt(fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &whole, sizeof whole);
  setsockopt(plain_fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &plain, sizeof plain);
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
  if (!open_.load(std::memory_order_relaxed)) {
    tx_errors_.add(queued_);
    queued_ = queued_pieces_ = 0;
    queued_offload_ = false;
    return;
  }
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
    if (errno == ENOBUFS && bypass_ && !shown_ && offloads_[sent].gso() != Offload::kGsoNone) {
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
    doubtful_ = true;  // the error may have been the interface's, and is told once
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
  for (const PacketRing& ring : rings_) rx_dropped_.add(ring.dropped());
  return {rx_frames_.get(), rx_bytes_.get(), rx_dropped_.get(), tx_frames_.get(), tx_bytes_.get(), tx_errors_.get(), refused_.load(std::memory_order_relaxed) != 0 || !bypass_,
          open_.load(std::memory_order_relaxed)};
}

// An interface that is only down comes back with its number, and the sockets with it; one that was taken away does not. Being taken
// away begins with being down, and only that is reported: whoever was down is looked at until frames come again.
void RingPort::look() {
  if (!open_.load(std::memory_order_relaxed)) return;
  for (const int fd : descriptors_) {
    pollfd state{fd, 0, 0};
    if (poll(&state, 1, 0) > 0 && (state.revents & (POLLERR | POLLHUP | POLLNVAL))) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);  // and clears it: the next poll() waits again
      doubtful_ = true;
    }
    if (!doubtful_) continue;
    sockaddr_ll bound{};
    socklen_t size = sizeof bound;
    // The kernel takes the number back from a socket whose interface is gone.
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0 || bound.sll_ifindex != int(index_)) open_.store(false, std::memory_order_relaxed);
  }
}

std::string RingPort::failure() const {
  if (open_.load(std::memory_order_relaxed)) return {};
  return "interface " + interface_ + ": it is gone";
}

}  // namespace weir
