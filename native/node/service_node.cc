#include "node/service_node.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/probes.h"
#include "wire/checksum.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {
namespace {

constexpr uint32_t kRemembered = 4096;  // a power of two
constexpr uint32_t kMostOuters = Receiver::kMostFrames * kBatchDatagrams * 128;

uint32_t datagrams_in(const Frame& frame, const StampedFrame& outer) {
  if (frame.offload.gso() != Offload::kGsoUdp || frame.offload.gso_size == 0 || outer.payload_end <= outer.payload) return 1;
  return (outer.payload_end - outer.payload + frame.offload.gso_size - 1) / frame.offload.gso_size;
}

}  // namespace

Wake::Wake() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Wake::~Wake() {
  if (fd_ >= 0) close(fd_);
}

void Wake::now() const { eventfd_write(fd_, 1); }

void Wake::clear() const {
  eventfd_t value;
  eventfd_read(fd_, &value);
}

ServiceNode::ServiceNode(std::unique_ptr<Port> port, const Address& address, Function function)
    : port_(std::move(port)), fragments_(*port_, address), out_(port_.get()), address_(address), function_(function), wake_(std::make_shared<Wake>()) {}

ServiceNode::~ServiceNode() {
  stop();
  join();
}

void ServiceNode::start(std::function<void(std::string)> finished) {
  thread_ = std::thread([this, finished = std::move(finished)] { finished(run()); });
}

void ServiceNode::stop() {
  stopping_.store(true, std::memory_order_release);
  wake_->now();
}

void ServiceNode::join() {
  if (thread_.joinable()) thread_.join();
}

void ServiceNode::attach(std::shared_ptr<FunctionQueue> queue) {
  std::lock_guard lock(next_mutex_);
  next_ = std::move(queue);
  changed_.store(true, std::memory_order_release);
  wake_->now();
}

void ServiceNode::detach(const FunctionQueue* queue) {
  std::lock_guard lock(next_mutex_);
  if (next_.get() != queue) return;
  next_ = nullptr;
  changed_.store(true, std::memory_order_release);
  wake_->now();
}

void ServiceNode::join_group(std::shared_ptr<const Group> group) {
  std::lock_guard lock(next_mutex_);
  if (group && !relay_) relay_ = std::make_unique<GroupRelay>();
  next_group_ = std::move(group);
  changed_.store(true, std::memory_order_release);
  wake_->now();
}

void ServiceNode::install(std::shared_ptr<const MeshMap> map) {
  std::lock_guard lock(next_mutex_);
  if (map && !made_exit_ && map->exits_directly()) made_exit_ = std::make_unique<DirectExit>(counters_.exited, counters_.dropped);
  next_map_ = std::move(map);
  changed_.store(true, std::memory_order_release);
  wake_->now();
}

void ServiceNode::join_appliance(std::shared_ptr<const UnitMaps> maps) {
  std::lock_guard lock(next_mutex_);
  if (maps && !chance_) chance_ = std::make_unique<SecondChance>();
  next_units_ = std::move(maps);
  changed_.store(true, std::memory_order_release);
  wake_->now();
}

const SecondChance* ServiceNode::second_chance() const {
  std::lock_guard lock(next_mutex_);
  return chance_.get();
}

std::shared_ptr<const UnitMaps> ServiceNode::units() const {
  std::lock_guard lock(next_mutex_);
  return next_units_;
}

const GroupCounters* ServiceNode::group_counters() const {
  std::lock_guard lock(next_mutex_);
  return relay_ ? &relay_->counters() : nullptr;
}

std::shared_ptr<const MeshMap> ServiceNode::map() const {
  std::lock_guard lock(next_mutex_);
  return next_map_;
}

std::shared_ptr<FunctionQueue> ServiceNode::queue() const {
  std::lock_guard lock(next_mutex_);
  return next_;
}

void ServiceNode::change_queue() {
  if (!changed_.exchange(false, std::memory_order_acquire)) return;
  std::shared_ptr<FunctionQueue> next = queue();
  if (queue_ && next != queue_) {
    send_answered();
    counters_.dropped[size_t(NodeDrop::no_function)].add(queue_->unanswered());
  }
  queue_ = std::move(next);
  if (std::shared_ptr<const MeshMap> wanted = map(); wanted != map_) {
    map_ = std::move(wanted);
    remembered_.assign(map_ ? kRemembered : 0, {});
  }
  std::lock_guard lock(next_mutex_);
  exit_ = made_exit_.get();
  group_ = next_group_;
  if (next_units_ && units_ && next_units_->epoch > units_->epoch) chance_->forget_all();
  units_ = next_units_;
}

void ServiceNode::receive(PortId, std::span<Frame> frames) {
  for (Frame& frame : frames) receive(frame);
}

void ServiceNode::receive(Frame& frame) {
  const StampedFrame outer = read_outer(frame);
  if (outer.result == StampedFrame::Result::not_ours) {
    if (take_fragment(frame)) return;
    if (!map_) return;
    const OuterError error = read_outer_error(frame);
    if (error.kind == OuterError::Kind::unreachable && error.from == address_) map_->note_unreachable(error.to);
    return;
  }
  if (outer.destination != address_) return;
  counters_.received.add(datagrams_in(frame, outer), frame.length);
  auto drop = [&](NodeDrop reason) { counters_.dropped[size_t(reason)]++; };
  if (outer.result == StampedFrame::Result::malformed) return drop(NodeDrop::malformed);
  const bool batch = frame.offload.gso() == Offload::kGsoUdp;
  if (!batch && !outer_checksum_ok(frame, outer)) return drop(NodeDrop::checksum);
  if (is_probe_frame(frame, outer)) return pass(frame, outer, nullptr);
  if (units_) {
    const SecondChance::Outcome outcome = chance_->take(frame, outer, *units_, now_s_, *out_);
    if (outcome.way == SecondChance::Way::refused) counters_.dropped[size_t(outcome.reason)].add(datagrams_in(frame, outer));
    if (outcome.way != SecondChance::Way::here) return;
  }
  if (group_ && relay_->take(frame, outer, *group_, now_s_, *out_) != GroupRelay::Way::here) return;
  if (function_ == Function::pass) return pass(frame, outer, nullptr);
  collect(frame, outer);
}

MeshStep ServiceNode::next_step(const DatagramView& view, const Address& source) {
  MeshStep step;
  Remembered& known = remembered_[(view.code ^ view.spi * 0x9e3779b1u ^ view.si) & (kRemembered - 1)];
  const uint32_t path = view.spi << 8 | view.si;
  if (known.spi == path && known.code == view.code) {
    step = known.step;
  } else {
    step = map_->next(view.spi, view.si, view.code);
    known = {path, view.code, step};
  }
  if (step.kind == MeshStep::Kind::back) {
    if (!map_->knows_path(view.spi)) counters_.unknown_path++;
    // From another instance, whose map has a path that this one does not: the forwarder knows it.
    const NodePlace* forwarder = map_->is_forwarder(source) || !map_->knows(source) ? nullptr : map_->forwarder(source.is_ipv4());
    if (forwarder && forwarder->resolved) step = {MeshStep::Kind::forwarder, NodeDrop::count_, forwarder, kNoInstance, step.si};
    return step;
  }
  auto refuse = [&](NodeDrop reason) { step = {MeshStep::Kind::refused, reason}; };
  if (step.kind != MeshStep::Kind::refused) {
    if (!map_->knows(source)) refuse(NodeDrop::stranger);
    else if (step.kind == MeshStep::Kind::instance && view.ttl <= 1) refuse(NodeDrop::ttl_expired);
  }
  if (step.kind == MeshStep::Kind::refused) counters_.dropped[size_t(step.reason)]++;
  return step;
}

bool ServiceNode::exits(MeshStep& step, uint8_t* inner, uint32_t length, bool ethernet) {
  if (step.kind != MeshStep::Kind::exit) return false;
  if (exit_->take(inner, length, ethernet, *map_)) return true;
  if (step.place) {
    step.kind = MeshStep::Kind::forwarder;
  } else {
    step = {MeshStep::Kind::refused, NodeDrop::unresolved};
    counters_.dropped[size_t(step.reason)]++;
  }
  return false;
}

// A datagram counts once, however many fragments it came in: when it is whole or given up.
void ServiceNode::lose(NodeDrop reason, const OuterReassembly::Lost& lost) {
  counters_.received.add(lost.datagrams, lost.bytes);
  counters_.dropped[size_t(reason)].add(lost.datagrams);
}

bool ServiceNode::take_fragment(const Frame& frame) {
  FragmentPort::Taken taken = fragments_.take(frame, steady_ns());
  lose(NodeDrop::fragment_overflow, taken.pushed_out);
  switch (taken.way) {
    case FragmentPort::Way::none: return false;
    case FragmentPort::Way::kept: break;
    case FragmentPort::Way::malformed: lose(NodeDrop::malformed, taken.lost); break;
    case FragmentPort::Way::overlap: lose(NodeDrop::fragment_overlap, taken.lost); break;
    case FragmentPort::Way::too_long: lose(NodeDrop::fragment_overflow, taken.lost); break;
    case FragmentPort::Way::whole:
      fragments_.cut_to(cut_to_ = taken.longest);
      out_ = &fragments_;
      receive(taken.frame);
      out_ = port_.get();
      cut_to_ = 0;
  }
  return true;
}

void ServiceNode::flush() {
  port_->flush();
  if (exit_) exit_->flush();
}

void ServiceNode::turn(uint8_t* outer, uint8_t* stamp, const DatagramView& view, const MeshStep& step) {
  if (step.kind == MeshStep::Kind::back) {
    swap_outer(outer);
  } else {
    redirect_outer(outer, map_->own.mac, address_, step.place->mac, step.place->address);
  }
  stamp[kNshPathWord + 3] = step.si;
  if (step.kind == MeshStep::Kind::instance) store16(stamp + kNshTtlWord, uint16_t((load16(stamp + kNshTtlWord) & 0xf03f) | (view.ttl - 1) << 6));
}

// A frame whose datagrams all go the same way leaves as it lies. False where they don't.
bool ServiceNode::hand_on_whole(Frame& frame, const StampedFrame& outer, uint32_t size, Traffic* also) {
  const uint32_t length = outer.payload_end - outer.payload;
  uint8_t* first = frame.bytes + outer.payload;
  DatagramView view;
  if (!read_datagram(first, std::min(size, length), outer.encapsulation, view)) return false;
  uint32_t datagrams = 1;
  for (uint32_t done = size; done < length; done += size, datagrams++) {
    DatagramView other;
    if (!read_datagram(first + done, std::min(size, length - done), outer.encapsulation, other)) return false;
    if (other.spi != view.spi || other.si != view.si || other.code != view.code || other.ttl != view.ttl) return false;
  }
  const MeshStep step = next_step(view, outer.source);
  if (step.kind == MeshStep::Kind::exit) return false;  // each packet by itself
  if (step.kind == MeshStep::Kind::refused) {
    counters_.dropped[size_t(step.reason)].add(datagrams - 1);
    return true;
  }
  for (uint32_t done = 0; done < length; done += size) {
    uint8_t* stamp = first + done;
    stamp[kNshPathWord + 3] = step.si;
    if (step.kind == MeshStep::Kind::instance) store16(stamp + kNshTtlWord, uint16_t((load16(stamp + kNshTtlWord) & 0xf03f) | (view.ttl - 1) << 6));
  }
  turn(frame.bytes, first, view, step);
  finish_outer(frame, outer);
  counters_.returned.add(datagrams, frame.length);
  if (step.kind == MeshStep::Kind::instance) counters_.handed_on.add(datagrams, frame.length);
  if (also) also->add(datagrams, frame.length);
  const Piece piece{frame.bytes, frame.length};
  out_->send({0, frame.offload, {&piece, 1}});
  return true;
}

void ServiceNode::hand_on(Frame& frame, const StampedFrame& outer, Traffic* also) {
  const uint32_t length = outer.payload_end - outer.payload;
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
  const uint32_t size = batch ? frame.offload.gso_size : std::max(length, 1u);
  if (hand_on_whole(frame, outer, size, also)) return;
  for (uint32_t done = 0; done < length || done == 0; done += size) {
    uint8_t* p = frame.bytes + outer.payload + done;
    const uint32_t n = std::min(size, length - done);
    DatagramView view;
    if (!read_datagram(p, n, outer.encapsulation, view)) {
      counters_.dropped[size_t(NodeDrop::malformed)]++;
      continue;
    }
    MeshStep step = next_step(view, outer.source);
    if (exits(step, p + view.stamp, n - view.stamp, view.ethernet)) {
      if (also) also->add(1, outer.payload + n);
      continue;
    }
    if (step.kind == MeshStep::Kind::refused) continue;
    if (outers_.size() + outer.payload > kMostOuters) {
      counters_.dropped[size_t(NodeDrop::queue_full)]++;
      continue;
    }
    outers_.reserve(kMostOuters);
    uint8_t* headers = outers_.data() + outers_.size();
    outers_.insert(outers_.end(), frame.bytes, frame.bytes + outer.payload);
    turn(headers, p, view, step);
    if (step.kind == MeshStep::Kind::instance) counters_.handed_on.add(1, outer.payload + n);
    if (also) also->add(1, outer.payload + n);
    back_.add(*out_, headers, outer.payload, {p, view.stamp}, {p + view.stamp, n - view.stamp});
  }
  back_.finish(*out_);
  counters_.returned.add(back_.take_frames(), back_.take_bytes());
}

void ServiceNode::pass(Frame& frame, const StampedFrame& outer, Traffic* also) {
  if (map_ && outer.encapsulation == Encapsulation::nsh && !is_probe_frame(frame, outer)) return hand_on(frame, outer, also);
  uint32_t datagrams = 0;
  if (const NodeDrop reason = turn_round(frame, outer, datagrams); reason != NodeDrop::count_) {
    counters_.dropped[size_t(reason)]++;
    return;
  }
  counters_.returned.add(datagrams, frame.length);
  if (also) also->add(datagrams, frame.length);
  const Piece piece{frame.bytes, frame.length};
  out_->send({0, frame.offload, {&piece, 1}});
}

// Copies the packets for the function, which answers later: the ring's memory can't wait for it.
void ServiceNode::collect(Frame& frame, const StampedFrame& outer) {
  const uint32_t length = outer.payload_end - outer.payload;
  const uint32_t datagrams = datagrams_in(frame, outer);
  Slab* slab = queue_ ? queue_->filling(datagrams, length) : nullptr;
  if (!slab) {
    if (function_ == Function::open) return pass(frame, outer, &counters_.bypassed);
    counters_.dropped[size_t(queue_ ? NodeDrop::queue_full : NodeDrop::no_function)].add(datagrams);
    return;
  }
  const uint32_t size = datagrams > 1 ? frame.offload.gso_size : std::max(length, 1u);
  for (uint32_t done = 0; done < length; done += size) {
    const uint8_t* p = frame.bytes + outer.payload + done;
    const uint32_t n = std::min(size, length - done);
    if (is_probe(p, n, outer.encapsulation)) continue;  // among packets of a stream: no function is to see it
    DatagramView view;
    if (!read_datagram(p, n, outer.encapsulation, view)) {
      counters_.dropped[size_t(NodeDrop::malformed)]++;
      continue;
    }
    if (outer.encapsulation == Encapsulation::nsh && view.si == 0) {
      counters_.dropped[size_t(NodeDrop::si_zero)]++;
      continue;
    }
    slab->add(view, {frame.bytes, outer.payload}, {p, view.stamp}, {p + view.stamp, n - view.stamp}, cut_to_);
  }
}

// The outer headers and the stamp lie in the slab's own memory, and are turned round there.
void ServiceNode::send_back(Slab& slab, const FunctionPacket& packet, uint8_t* inner, uint32_t length) {
  if (packet.outer_length + length > kLongestDatagram) {
    counters_.dropped[size_t(NodeDrop::too_big)]++;
    return;
  }
  uint8_t* outer = slab.outer.data() + packet.outer_at;
  const uint32_t outer_length = packet.outer_length - packet.view.stamp;
  uint8_t* stamp = outer + outer_length;
  if (map_ && packet.view.encapsulation == Encapsulation::nsh) {
    const uint8_t* ip = outer + kEthernetHeader;
    const Address source = load16(outer + 12) == kEtherIpv4 ? Address::from_ipv4(ip + 12) : Address::from_ipv6(ip + 8);
    MeshStep step = next_step(packet.view, source);
    if (exits(step, inner, length, packet.view.ethernet) || step.kind == MeshStep::Kind::refused) return;
    turn(outer, stamp, packet.view, step);
    if (step.kind == MeshStep::Kind::instance) counters_.handed_on.add(1, packet.outer_length + length);
  } else {
    swap_outer(outer);
    if (packet.view.encapsulation == Encapsulation::nsh) stamp[kNshPathWord + 3]--;
  }
  if (packet.cut_to == 0) return back_.add(*port_, outer, outer_length, {stamp, packet.view.stamp}, {inner, length});
  back_.finish(*port_);
  fragments_.cut_to(packet.cut_to);
  back_.add(fragments_, outer, outer_length, {stamp, packet.view.stamp}, {inner, length});
  back_.finish(fragments_);
}

void ServiceNode::send_answered() {
  while (Slab* slab = queue_->answered()) {
    const auto& packets = slab->packets();
    for (uint32_t i = 0; i < packets.size(); i++) {
      const FunctionPacket& packet = packets[i];
      switch (slab->verdict(i)) {
        case FunctionVerdict::forward: send_back(*slab, packet, slab->bytes() + packet.at, packet.length); break;
        case FunctionVerdict::replace: send_back(*slab, packet, slab->replaced.data() + packet.new_at, packet.new_length); break;
        case FunctionVerdict::drop: counters_.dropped[size_t(NodeDrop::function_drop)]++; break;
        case FunctionVerdict::none: counters_.dropped[size_t(NodeDrop::function_error)]++; break;
      }
    }
    back_.finish(*port_);
    flush();
    counters_.returned.add(back_.take_frames(), back_.take_bytes());
    queue_->release(slab);
  }
}

std::string ServiceNode::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    change_queue();
    if (group_ || units_) now_s_ = steady_s();
    const uint32_t frames = port_->receive(0, *this);
    if (frames) {
      flush();
      port_->release();
      outers_.clear();
    }
    if (fragments_.waiting()) lose(NodeDrop::fragment_timeout, fragments_.expire(steady_ns()));
    if (queue_) {
      queue_->hand_on();
      send_answered();
    }
    fragments_.reset();
    if (frames) continue;
    port_->look();
    if (std::string reason = port_->failure(); !reason.empty()) return reason;
    poll_.assign(1, {wake_->descriptor(), POLLIN, 0});
    for (const int fd : port_->descriptors()) poll_.push_back({fd, POLLIN, 0});
    poll(poll_.data(), poll_.size(), fragments_.waiting() ? kFragmentWaitMs : 1000);
    if (poll_[0].revents) wake_->clear();
  }
  return {};
}

}  // namespace weir
