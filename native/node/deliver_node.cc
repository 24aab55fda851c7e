#include "node/deliver_node.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "node/function_queue.h"
#include "node/stamped_datagram.h"
#include "wire/ethernet.h"

namespace weir {

DeliverNode::DeliverNode(std::unique_ptr<Port> port, const Address& address, std::unique_ptr<FrameSender> sender, const Mac& from, const Mac& to)
    : port_(std::move(port)), fragments_(*port_, address), address_(address), sender_(std::move(sender)), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  for (uint8_t* link : {link4_, link6_}) {
    std::memcpy(link, to.bytes.data(), 6);
    std::memcpy(link + 6, from.bytes.data(), 6);
  }
  store16(link4_ + 12, kEtherIpv4);
  store16(link6_ + 12, kEtherIpv6);
}

DeliverNode::~DeliverNode() {
  stop();
  join();
  if (wake_ >= 0) close(wake_);
}

void DeliverNode::start(std::function<void(std::string)> finished) {
  thread_ = std::thread([this, finished = std::move(finished)] { finished(run()); });
}

void DeliverNode::stop() {
  stopping_.store(true, std::memory_order_release);
  eventfd_write(wake_, 1);
}

void DeliverNode::join() {
  if (thread_.joinable()) thread_.join();
}

void DeliverNode::receive(PortId, std::span<Frame> frames) {
  for (Frame& frame : frames) receive(frame);
}

void DeliverNode::receive(Frame& frame) {
  const StampedFrame outer = read_outer(frame);
  if (outer.result == StampedFrame::Result::not_ours) {
    take_fragment(frame);
    return;
  }
  if (outer.destination != address_) return;
  counters_.received.add(frame.length);
  auto drop = [&](DeliverDrop reason) { counters_.dropped[size_t(reason)]++; };
  if (outer.result == StampedFrame::Result::malformed) return drop(DeliverDrop::malformed);
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size;
  if (!batch && !outer_checksum_ok(frame, outer)) return drop(DeliverDrop::checksum);
  const uint32_t length = outer.payload_end - outer.payload;
  uint8_t* payload = frame.bytes + outer.payload;
  if (is_probe_frame(frame, outer)) {  // it asks whether somebody is here: answered as by any other instance
    uint32_t datagrams;
    if (turn_round(frame, outer, datagrams) != NodeDrop::count_) return drop(DeliverDrop::malformed);
    counters_.probes++;
    const Piece piece{frame.bytes, frame.length};
    return port_->send({0, frame.offload, {&piece, 1}});
  }
  const uint32_t size = batch ? frame.offload.gso_size : std::max(length, 1u);
  for (uint32_t done = 0; done < length; done += size) deliver(payload + done, std::min(size, length - done), outer.encapsulation);
}

// A datagram counts once, however many fragments it came in: when it is whole or given up.
void DeliverNode::lose(DeliverDrop reason, const OuterReassembly::Lost& lost) {
  counters_.received.add(lost.datagrams, lost.bytes);
  counters_.dropped[size_t(reason)].add(lost.datagrams);
}

void DeliverNode::take_fragment(const Frame& frame) {
  FragmentPort::Taken taken = fragments_.take(frame, steady_ns());
  lose(DeliverDrop::fragment_overflow, taken.pushed_out);
  switch (taken.way) {
    case FragmentPort::Way::none:
    case FragmentPort::Way::kept: break;
    case FragmentPort::Way::malformed: lose(DeliverDrop::malformed, taken.lost); break;
    case FragmentPort::Way::overlap: lose(DeliverDrop::fragment_overlap, taken.lost); break;
    case FragmentPort::Way::too_long: lose(DeliverDrop::fragment_overflow, taken.lost); break;
    case FragmentPort::Way::whole: receive(taken.frame);
  }
}

void DeliverNode::deliver(uint8_t* datagram, uint32_t length, Encapsulation encapsulation) {
  auto drop = [&](DeliverDrop reason) { counters_.dropped[size_t(reason)]++; };
  bool ethernet = false;
  uint32_t at;
  if (encapsulation == Encapsulation::nsh) {
    const std::optional<NshStamp> stamp = read_nsh(datagram, length);
    if (!stamp) return drop(DeliverDrop::malformed);
    if (stamp->si == 0) return drop(DeliverDrop::si_zero);
    ethernet = stamp->next_protocol == kNshProtocolEthernet;
    at = stamp->length;
  } else {
    const std::optional<GeneveStamp> stamp = read_geneve(datagram, length);
    if (!stamp) return drop(DeliverDrop::malformed);
    at = stamp->length;
  }
  const uint32_t left = length - at;
  Packet packet;
  if (ethernet) {
    parse_frame({datagram + at, left, left, 0, {}, false}, packet);
  } else {
    parse_ip(datagram + at, left, left, packet);
  }
  if (packet.verdict == Packet::Verdict::malformed) return drop(DeliverDrop::malformed);
  if (packet.version == 0) return drop(DeliverDrop::not_ip);
  counters_.delivered.add(packet.ip_length());
  sender_->send({packet.version == 4 ? link4_ : link6_, kEthernetHeader}, {packet.bytes + packet.ip, packet.ip_length()});
}

std::string DeliverNode::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    const bool received = port_->receive(0, *this) > 0;
    if (received) {
      sender_->flush();
      port_->flush();
      port_->release();
      fragments_.reset();
    }
    if (fragments_.waiting()) lose(DeliverDrop::fragment_timeout, fragments_.expire(steady_ns()));
    if (received) continue;
    port_->look();
    if (std::string reason = port_->failure(); !reason.empty()) return reason;
    poll_.assign(1, {wake_, POLLIN, 0});
    for (const int fd : port_->descriptors()) poll_.push_back({fd, POLLIN, 0});
    poll(poll_.data(), poll_.size(), fragments_.waiting() ? kFragmentWaitMs : 1000);
  }
  return {};
}

}  // namespace weir
