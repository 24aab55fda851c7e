#include "replay/replay.h"

#include <cstring>

#include "node/stamped_datagram.h"

namespace weir {
namespace {

constexpr size_t kMostPairs = 1 << 20;
constexpr uint32_t kHeadroom = 192;

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
  const Packet packet = parse_frame(frame);
  const bool has_addresses = packet.version != 0 && packet.tuple.source != packet.tuple.destination;
  if (!has_addresses) {  // ARP and the like: the first MAC seen sending is the workload's
    if (frame.length < 12) return in;
    if (!have_workload_mac_) {
      std::memcpy(workload_mac_, frame.bytes + 6, 6);
      have_workload_mac_ = true;
    }
    return std::memcmp(workload_mac_, frame.bytes + 6, 6) == 0 ? in : out;
  }
  // An ICMP error's own addresses, not those of the stream it quotes.
  const Tuple& tuple = packet.icmp_error ? packet.icmp_tuple : packet.tuple;
  if (!workload_.empty()) return from_workload(tuple.source) ? in : out;
  const bool lesser = tuple.source < tuple.destination;
  const std::array<Address, 2> pair = lesser ? std::array{tuple.source, tuple.destination} : std::array{tuple.destination, tuple.source};
  if (first_is_lesser_.size() >= kMostPairs) first_is_lesser_.clear();
  const bool first_lesser = first_is_lesser_.try_emplace(pair, lesser).first->second;
  return first_lesser == lesser ? in : out;
}

void Replay::return_from_instance(CollectedFrame& stamped) {
  Frame frame{stamped.bytes.data(), uint32_t(stamped.bytes.size()), uint32_t(stamped.bytes.size()), 0, stamped.offload, false};
  const StampedFrame outer = read_outer(frame);
  uint32_t datagrams;
  if (outer.result != StampedFrame::Result::ok || turn_round(frame, outer, datagrams) != NodeDrop::count_) return;
  std::vector<uint8_t> bytes(kHeadroom + frame.length);
  std::memcpy(bytes.data() + kHeadroom, frame.bytes, frame.length);
  returned_.push_back(std::move(bytes));
}

void Replay::run(PortId port, Frame& frame) {
  engine_.process(reader_.time_ns(), port, frame, sink_);
  for (;;) {
    for (CollectedFrame& f : sink_.frames()) {
      const bool underlay = f.port == kUnderlayPort;
      if (underlay ? write_stamped_ : write_final_) (underlay ? stamped_ : final_).write(reader_.time_ns(), f.bytes.data(), uint32_t(f.bytes.size()));
      if (underlay) return_from_instance(f);
    }
    sink_.clear();
    if (returned_.empty()) return;
    std::vector<uint8_t> bytes = std::move(returned_.front());
    returned_.pop_front();
    const uint32_t length = uint32_t(bytes.size()) - kHeadroom;
    Frame back{bytes.data() + kHeadroom, length, length, kHeadroom, {}, false};
    engine_.process(reader_.time_ns(), kUnderlayPort, back, sink_);
  }
}

const ReplayProgress& Replay::step(uint32_t packets) {
  for (; packets && !progress_.done; packets--) {
    switch (reader_.next()) {
      case CaptureReader::Next::frame: {
        progress_.packets++;
        Frame& frame = reader_.frame();
        run(port_of(frame), frame);
        engine_.tick(reader_.time_ns());
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
