#include "replay/replay.h"

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

bool within(const Address& a, const Prefix& p) {
  const uint32_t whole = p.length / 8, rest = p.length % 8;
  if (std::memcmp(a.bytes.data(), p.address.bytes.data(), whole) != 0) return false;
  return rest == 0 || ((a.bytes[whole] ^ p.address.bytes[whole]) >> (8 - rest)) == 0;
}

}  // namespace

size_t Replay::PairHash::operator()(const std::array<Address, 2>& pair) const {
  uint64_t words[4], h = 0x9e3779b97f4a7c15;
  std::memcpy(words, &pair, sizeof words);
  for (const uint64_t w : words) h = (h ^ w) * 0xff51afd7ed558ccd, h ^= h >> 32;
  return size_t(h);
}

Replay::Replay(const EngineLimits& limits, std::shared_ptr<const Program> program) : engine_(limits) { engine_.install(std::move(program)); }

std::string Replay::open(const ReplayFiles& files) {
  workload_ = files.workload;
  if (std::string error = reader_.open(files.read); !error.empty()) return error;
  progress_.bytes_total = reader_.bytes_total();
  write_stamped_ = !files.write.empty();
  write_final_ = !files.out.empty();
  if (write_stamped_)
    if (std::string error = stamped_.open(files.write); !error.empty()) return error;
  if (write_final_) return final_.open(files.out);
  return {};
}

bool Replay::from_workload(const Address& address) const {
  for (const Prefix& prefix : workload_)
    if (within(address, prefix)) return true;
  return false;
}

PortId Replay::port_of(const Frame& frame) {
  const PortId in = capture_in_port(0), out = capture_out_port(0);
  if (reader_.sent_by_host() >= 0 && workload_.empty()) return reader_.sent_by_host() ? in : out;
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

// Writes the frame, and lets the instance it goes to send it back: turned round where it lies.
void Replay::emit(const OutFrame& out) {
  const bool underlay = out.port == kUnderlayPort;
  CaptureWriter* writer = underlay ? write_stamped_ ? &stamped_ : nullptr : write_final_ ? &final_ : nullptr;
  if (!writer && !underlay) return;
  uint8_t* bytes = const_cast<uint8_t*>(out.pieces[0].bytes);
  const uint32_t length = out.length();
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
  if (writer) writer->write(reader_.time_ns(), bytes, length);
  if (!underlay) return;
  Frame frame{bytes, length, length, headroom, out.offload, false};
  const StampedFrame outer = read_outer(frame);
  uint32_t datagrams;
  if (outer.result == StampedFrame::Result::ok && turn_round(frame, outer, datagrams) == NodeDrop::count_) returned_.push_back(frame);
}

void Replay::run(PortId port, Frame& frame) {
  engine_.process(reader_.time_ns(), port, frame, *this);
  while (taken_ < returned_.size()) {
    Frame back = returned_[taken_++];
    engine_.process(reader_.time_ns(), kUnderlayPort, back, *this);
  }
  returned_.clear();
  taken_ = 0;
  arena_.reset();
}

const ReplayProgress& Replay::step(uint32_t packets) {
  for (; packets && !progress_.done; packets--) {
    switch (reader_.next()) {
      case CaptureReader::Next::frame: {
        progress_.packets++;
        Frame& frame = reader_.frame();
        run(port_of(frame), frame);
        if (reader_.time_ns() >= ticked_ns_ + kTickNs) {
          engine_.tick(reader_.time_ns());
          ticked_ns_ = reader_.time_ns();
        }
        break;
      }
      case CaptureReader::Next::unusable:
        progress_.packets++;
        progress_.unusable++;
        break;
      case CaptureReader::Next::broken:
        progress_.error = reader_.error();
        progress_.done = true;
        break;
      case CaptureReader::Next::end:
        progress_.done = true;
        break;
    }
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
