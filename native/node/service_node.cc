#include "node/service_node.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>


namespace weir {
namespace {

constexpr uint32_t kLongestDatagram = 65000;

}  // namespace

ServiceNode::ServiceNode(std::unique_ptr<Port> port, const Address& address, Deliver deliver)
    : port_(std::move(port)), address_(address), deliver_(std::move(deliver)), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

ServiceNode::~ServiceNode() {
  stop();
  join();
  if (wake_ >= 0) close(wake_);
}

void ServiceNode::start(std::function<void(std::string)> finished) {
  thread_ = std::thread([this, finished = std::move(finished)] { finished(run()); });
}

void ServiceNode::stop() {
  stopping_.store(true, std::memory_order_release);
  eventfd_write(wake_, 1);
}

void ServiceNode::join() {
  if (thread_.joinable()) thread_.join();
}

void ServiceNode::verdicts(std::shared_ptr<NodeBatch> batch, std::vector<NodeVerdict> verdicts) {
  {
    std::lock_guard lock(done_mutex_);
    done_.emplace_back(std::move(batch), std::move(verdicts));
  }
  eventfd_write(wake_, 1);
}

void ServiceNode::receive(PortId, std::span<Frame> frames) {
  for (Frame& frame : frames) receive(frame);
}

void ServiceNode::receive(Frame& frame) {
  const StampedFrame outer = read_outer(frame);
  if (outer.result == StampedFrame::Result::not_ours || outer.destination != address_) return;
  counters_.received.add(frame.length);
  auto drop = [&](NodeDrop reason) { counters_.dropped[size_t(reason)]++; };
  if (outer.result == StampedFrame::Result::malformed) return drop(NodeDrop::malformed);
  const bool batch = frame.offload.gso() == Offload::kGsoUdp;
  if (!batch && !outer_checksum_ok(frame, outer)) return drop(NodeDrop::checksum);
  if (deliver_) return collect(frame, outer);
  uint32_t datagrams = 0;
  if (const NodeDrop reason = turn_round(frame, outer, datagrams); reason != NodeDrop::count_) return drop(reason);
  counters_.returned.add(frame.length);
  const Piece piece{frame.bytes, frame.length};
  port_->send({0, frame.offload, {&piece, 1}});
}

// Copies the packets for the function, which answers later: the ring's memory can't wait for it.
void ServiceNode::collect(Frame& frame, const StampedFrame& outer) {
  const uint32_t length = outer.payload_end - outer.payload;
  const uint32_t size = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size ? frame.offload.gso_size : std::max(length, 1u);
  for (uint32_t done = 0; done < length; done += size) {
    const uint8_t* p = frame.bytes + outer.payload + done;
    const uint32_t n = std::min(size, length - done);
    NodePacket packet;
    if (!read_datagram(p, n, outer.encapsulation, packet.view)) {
      counters_.dropped[size_t(NodeDrop::malformed)]++;
      continue;
    }
    if (outer.encapsulation == Encapsulation::nsh && packet.view.si == 0) {
      counters_.dropped[size_t(NodeDrop::si_zero)]++;
      continue;
    }
    if (!batch_) batch_ = std::make_shared<NodeBatch>();
    std::vector<uint8_t>& bytes = batch_->bytes;
    packet.ipv6 = !outer.destination.is_ipv4();
    packet.outer_at = uint32_t(bytes.size());
    packet.outer_length = outer.payload + packet.view.stamp;
    bytes.insert(bytes.end(), frame.bytes, frame.bytes + outer.payload);
    bytes.insert(bytes.end(), p, p + packet.view.stamp);
    packet.at = uint32_t(bytes.size());
    packet.length = n - packet.view.stamp;
    bytes.insert(bytes.end(), p + packet.view.stamp, p + n);
    batch_->packets.push_back(packet);
  }
}

// The outer headers and the stamp lie before the packet in the batch's own memory, and are turned round there.
void ServiceNode::send_back(NodeBatch& batch, const NodePacket& packet, const uint8_t* inner, uint32_t length) {
  if (packet.outer_length + length > kLongestDatagram) {
    counters_.dropped[size_t(NodeDrop::too_big)]++;
    return;
  }
  uint8_t* outer = batch.bytes.data() + packet.outer_at;
  swap_outer(outer);
  const uint32_t outer_length = packet.outer_length - packet.view.stamp;
  uint8_t* stamp = outer + outer_length;
  if (packet.view.encapsulation == Encapsulation::nsh) stamp[kNshPathWord + 3]--;
  back_.add(*port_, outer, outer_length, {stamp, packet.view.stamp}, {inner, length});
}

void ServiceNode::finish_batches() {
  decltype(done_) done;
  {
    std::lock_guard lock(done_mutex_);
    done.swap(done_);
  }
  for (const auto& [batch, verdicts] : done) {
    for (size_t i = 0; i < batch->packets.size(); i++) {
      const NodePacket& packet = batch->packets[i];
      static const NodeVerdict kNone{NodeVerdict::Kind::error, {}};
      const NodeVerdict& verdict = i < verdicts.size() ? verdicts[i] : kNone;
      switch (verdict.kind) {
        case NodeVerdict::Kind::forward: send_back(*batch, packet, batch->bytes.data() + packet.at, packet.length); break;
        case NodeVerdict::Kind::replace: send_back(*batch, packet, verdict.replacement.data(), uint32_t(verdict.replacement.size())); break;
        case NodeVerdict::Kind::drop: counters_.dropped[size_t(NodeDrop::function_drop)]++; break;
        case NodeVerdict::Kind::error: counters_.dropped[size_t(NodeDrop::function_error)]++; break;
      }
    }
    back_.finish(*port_);
    port_->flush();  // before the batch's memory goes
    counters_.returned.add(back_.take_frames(), back_.take_bytes());
  }
}

std::string ServiceNode::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    const uint32_t frames = port_->receive(0, *this);
    if (frames) {
      port_->flush();
      port_->release();
    }
    if (batch_) {
      const size_t packets = batch_->packets.size();
      if (!deliver_(std::move(batch_))) counters_.dropped[size_t(NodeDrop::queue_full)].add(packets);
      batch_ = nullptr;
    }
    finish_batches();
    if (frames) continue;
    if (std::string reason = port_->failure(); !reason.empty()) return reason;
    pollfd fds[2] = {{wake_, POLLIN, 0}, {port_->descriptor(), POLLIN, 0}};
    poll(fds, 2, 1000);
    if (fds[0].revents) {
      eventfd_t value;
      eventfd_read(wake_, &value);
    }
  }
  return {};
}

}  // namespace weir
