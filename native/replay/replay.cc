#include "replay/replay.h"

#include <algorithm>
#include <cstring>

#include "node/stamped_datagram.h"
#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir {
namespace {

constexpr size_t kMostPairs = 1 << 20;
constexpr uint32_t kHeadroom = 192;
constexpr uint64_t kTickNs = 1'000'000;

// Of the IP header itself, which for an ICMP error is not the stream's.
bool read_addresses(const Frame& frame, Address& source, Address& destination) {
  uint32_t at = 12;
  while (at + 4 <= frame.length && is_vlan_ethertype(load16(frame.bytes + at)) && at < 12 + 2 * kVlanTag) at += kVlanTag;
  if (at + 2 > frame.length) return false;
  const uint16_t type = load16(frame.bytes + at);
  const uint8_t* ip = frame.bytes + at + 2;
  const uint32_t room = frame.length - at - 2;
  if (type == kEtherIpv4 && room >= kIpv4Header && ip[0] >> 4 == 4) {
    source.set_ipv4(ip + 12);
    destination.set_ipv4(ip + 16);
    return true;
  }
  if (type != kEtherIpv6 || room < kIpv6Header || ip[0] >> 4 != 6) return false;
  source = Address::from_ipv6(ip + 8);
  destination = Address::from_ipv6(ip + 24);
  return true;
}

}  // namespace

size_t Replay::PairHash::operator()(const std::array<Address, 2>& pair) const {
  uint64_t words[4], h = 0x9e3779b97f4a7c15;
  std::memcpy(words, &pair, sizeof words);
  for (const uint64_t w : words) h = (h ^ w) * 0xff51afd7ed558ccd, h ^= h >> 32;
  return size_t(h);
}

Replay::Network::Network(const Prefix& prefix) {
  Address mask;
  for (uint32_t i = 0; i < 16; i++) mask.bytes[i] = uint8_t(0xff00 >> std::min<uint32_t>(8, prefix.length - std::min(prefix.length, 8 * i)));
  std::memcpy(mask_, mask.bytes.data(), sizeof mask_);
  std::memcpy(address_, prefix.address.bytes.data(), sizeof address_);
}

bool Replay::Network::has(const Address& a) const {
  uint64_t words[2];
  std::memcpy(words, a.bytes.data(), sizeof words);
  return (((words[0] ^ address_[0]) & mask_[0]) | ((words[1] ^ address_[1]) & mask_[1])) == 0;
}

Replay::Replay(const EngineLimits& limits, std::shared_ptr<const Program> program) : engine_(limits) { engine_.install(std::move(program)); }

std::string Replay::open(const ReplayFiles& files) {
  workload_.assign(files.workload.begin(), files.workload.end());
  if (std::string error = reader_.open(files.read); !error.empty()) return error;
  progress_.bytes_total = reader_.bytes_total();
  if (!files.write.empty())
    if (std::string error = stamped_.open(files.write); !error.empty()) return error;
  if (!files.out.empty()) return final_.open(files.out);
  return {};
}

bool Replay::from_workload(const Address& address) const {
  for (const Network& network : workload_)
    if (network.has(address)) return true;
  return false;
}

PortId Replay::port_of(const CaptureRecord& record) {
  const PortId in = capture_in_port(0), out = capture_out_port(0);
  const Frame& frame = record.frame;
  if (record.sent_by_host >= 0 && workload_.empty()) return record.sent_by_host ? in : out;
  Address source, destination;
  if (!read_addresses(frame, source, destination) || source == destination) {  // ARP and the like: the first MAC seen sending is the workload's
    if (frame.length < 12) return in;
    if (!have_workload_mac_) {
      std::memcpy(workload_mac_, frame.bytes + 6, 6);
      have_workload_mac_ = true;
    }
    return std::memcmp(workload_mac_, frame.bytes + 6, 6) == 0 ? in : out;
  }
  if (!workload_.empty()) return from_workload(source) ? in : out;
  const bool lesser = source < destination;
  const std::array<Address, 2> pair = lesser ? std::array{source, destination} : std::array{destination, source};
  if (first_is_lesser_.size() >= kMostPairs) first_is_lesser_.clear();
  const bool first_lesser = first_is_lesser_.try_emplace(pair, lesser).first->second;
  return first_lesser == lesser ? in : out;
}

bool Replay::ends_there(const Frame& frame, const StampedFrame& outer) const {
  DatagramView view;
  if (!engine_.program().delivers || !read_datagram(frame.bytes + outer.payload, outer.payload_end - outer.payload, outer.encapsulation, view)) return false;
  const Path* path = engine_.program().path(view.spi / 2);
  return path && !(view.spi & 1) && path->ends_at(uint32_t(kNshFirstIndex - view.si));
}

// Writes the frame, and lets the instance it goes to send it back: turned round where it lies.
void Replay::emit(const OutFrame& out) {
  const bool underlay = engine_.program().is_underlay_port(out.port), to_instance = underlay || engine_.program().is_proxy_port(out.port);
  if (CaptureWriter& writer = to_instance ? stamped_ : final_; writer.is_open()) writer.write(now_ns_, out.pieces);
  if (!to_instance) return;
  const uint32_t length = out.length();
  uint8_t* bytes = const_cast<uint8_t*>(out.pieces[0].bytes);
  uint32_t headroom = 0;
  if (out.pieces.size() > 1) {
    bytes = arena_.take(kHeadroom + length) + kHeadroom;
    headroom = kHeadroom;
    uint32_t at = 0;
    for (const Piece& piece : out.pieces) {
      std::memcpy(bytes + at, piece.bytes, piece.length);
      at += piece.length;
    }
  }
  Frame frame{bytes, length, length, headroom, out.offload, false};
  // An instance's kernel puts fragments together, and its underlay has room for the whole on the way back.
  if (const OuterFragment f = underlay && out.pieces.size() > 1 ? read_outer_fragment(frame) : OuterFragment{}; f.kind == OuterFragment::Kind::fragment) {
    const OuterReassembly::Result result = at_instances_.add(f, frame, now_ns_, *this);
    if (result.outcome != OuterReassembly::Outcome::whole) return;
    frame = result.frame;
  }
  if (!underlay) {
    PortId back;
    if (through_proxied(out.port, frame, back)) returned_.push_back({back, frame});
    return;
  }
  const StampedFrame outer = read_outer(frame);
  uint32_t datagrams;
  if (outer.result == StampedFrame::Result::ok && !ends_there(frame, outer) && turn_round(frame, outer, datagrams) == NodeDrop::count_) returned_.push_back({out.port, frame});
}

// What an instance without stamps does that lets everything through: a bump gives the frame out on its other side, a router sends it
// back with one hop less to live. The frame lies in memory of its own: there is one piece of link header at least.
bool Replay::through_proxied(PortId port, Frame& frame, PortId& back) {
  const Program& program = engine_.program();
  const bool tagged = program.port_tagged(port);
  const uint16_t vlan = tagged ? load16(frame.bytes + 14) & 0xfff : 0;
  for (const Instance& instance : program.instances) {
    if (!instance.proxied()) continue;
    const bool routed = instance.reach == Instance::Reach::routed;
    for (size_t side = 0; side < 2; side++) {
      const Leg &in = instance.legs[side], &out = instance.legs[1 - side];
      if (in.port != port || in.vlan != vlan || (routed && std::memcmp(frame.bytes, in.mac.bytes.data(), 6) != 0)) continue;
      back = out.port;
      const uint32_t at = 12 + (tagged ? kVlanTag : 0);
      if (tagged) store16(frame.bytes + 14, out.vlan);
      if (!routed) return true;
      std::memcpy(frame.bytes, program.proxy_port(out.port).mac.bytes.data(), 6);
      std::memcpy(frame.bytes + 6, out.mac.bytes.data(), 6);
      uint8_t* ip = frame.bytes + at + 2;
      uint8_t& hops = load16(frame.bytes + at) == kEtherIpv4 ? ip[8] : ip[7];
      if (hops < 2) return false;
      hops--;
      if (load16(frame.bytes + at) == kEtherIpv4) Ipv4::finish(ip);
      return true;
    }
  }
  return false;
}

// Each packet is through all its hops before the next one: nothing depends on how many are read ahead.
void Replay::run(uint32_t number) {
  CaptureRecord& record = records_[number];
  now_ns_ = record.time_ns;
  engine_.process_ahead(now_ns_, ports_[number], number, record.frame, *this);
  while (taken_ < returned_.size()) {
    Back back = returned_[taken_++];
    engine_.process(now_ns_, back.port, back.frame, *this);
  }
  returned_.clear();
  taken_ = 0;
  arena_.reset();
  if (now_ns_ < ticked_ns_ + kTickNs) return;
  engine_.tick(now_ns_);
  ticked_ns_ = now_ns_;
}

bool Replay::read_ahead() {
  at_ = 0;
  in_hand_ = reader_.read(records_);
  for (uint32_t i = 0; i < in_hand_; i++) {
    // What can't be used stands for a frame of no bytes, which is read as such and never run.
    frames_[i] = records_[i].usable ? records_[i].frame : Frame{};
    ports_[i] = records_[i].usable ? port_of(records_[i]) : capture_in_port(0);
  }
  engine_.look_ahead({frames_.data(), in_hand_}, {ports_.data(), in_hand_});
  return in_hand_ > 0;
}

const ReplayProgress& Replay::step(uint32_t packets) {
  for (; packets && !progress_.done; packets--) {
    if (at_ == in_hand_ && !read_ahead()) {
      progress_.error = reader_.error();
      progress_.done = true;
      break;
    }
    progress_.packets++;
    if (records_[at_].usable) {
      run(at_);
    } else {
      progress_.unusable++;
    }
    at_++;
  }
  progress_.bytes_read = progress_.done ? progress_.bytes_total : reader_.bytes_read();
  return progress_;
}

std::string Replay::close() {
  std::string error = stamped_.close();
  const std::string second = final_.close();
  return error.empty() ? second : error;
}

}  // namespace weir
