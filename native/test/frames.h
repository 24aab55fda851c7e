// Frames and programs for native tests.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "node/stamped_datagram.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir::test {

using Bytes = std::vector<uint8_t>;

inline Bytes hex(const std::string& text) {
  Bytes out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) out.push_back(uint8_t(std::stoul(text.substr(i, 2), nullptr, 16)));
  return out;
}

inline Address ip(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  const uint8_t bytes[4] = {a, b, c, d};
  return Address::from_ipv4(bytes);
}

// Two services with two instances each, chain 0 (path 1, or `path`) through both, everything steered.
inline std::shared_ptr<Program> program(Encapsulation encapsulation, uint32_t path = 1) {
  auto p = std::make_shared<Program>();
  p->underlays[0].ipv4 = ip(10, 20, 0, 1);
  p->underlays[0].mac = {{2, 0, 0, 0, 0, 1}};
  for (int i = 0; i < 8; i++) reinterpret_cast<uint8_t*>(p->affinity_key)[i] = uint8_t(i), reinterpret_cast<uint8_t*>(p->affinity_key)[i + 8] = uint8_t(i + 8);
  p->captures = {{"web", 0, 1500}};
  p->services = {{.id = 0}, {.id = 1}};
  for (uint16_t i = 0; i < 4; i++)
    p->instances.push_back({.id = i, .service = uint16_t(i / 2), .address = ip(10, 20, 0, uint8_t(11 + i)), .mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}}, .resolved = true, .seed = {i, uint32_t(i * 77)}});
  p->paths = {{.id = path, .chain = 0, .encapsulation = encapsulation, .services = {0, 1}}};
  p->chains = {{0, path}};
  p->rules = {{.action = Action::chain}};
  const std::string error = p->check();
  if (!error.empty()) throw std::logic_error(error);
  return p;
}

// A sink whose ports take super-frames, as the ring port does, or single frames only, as a file does.
class TestSink final : public Sink {
 public:
  explicit TestSink(bool carries = false) : carries_super_frames(carries) {}
  uint8_t* scratch(uint32_t n) override { return collector.scratch(n); }
  void emit(const OutFrame& frame) override { collector.emit(frame); }
  bool carries(PortId, uint8_t) const override { return carries_super_frames; }
  FrameCollector collector;
  bool carries_super_frames;
};

// Runs a copy of the frame, exactly as long as it is (so that a sanitizer sees a read past its end), through the engine.
inline std::vector<CollectedFrame> process(Engine& engine, PortId port, const Bytes& bytes, const Offload& offload = {}, uint64_t now = 1, bool unknown = false,
                                           bool carries = false) {
  std::unique_ptr<uint8_t[]> copy(new uint8_t[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  Frame frame{copy.get(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, offload, unknown};
  static thread_local TestSink sink;  // kept: a sanitizer makes much work of its memory
  sink.carries_super_frames = carries;
  sink.collector.clear();
  engine.process(now, port, frame, sink);
  return std::move(sink.collector.frames());
}

// From 10.S.S.S, the three bytes of `sender`, to 10.2.0.2; an answer the other way. No transport checksum.
inline Bytes packet(uint8_t protocol, uint32_t sender, uint16_t port, uint8_t flags, bool answer = false) {
  Bytes frame = hex("0200000000bb0200000000aa080045000028000140004006000a0a0100020a0200029c40005000000001000000005002ffff00000000");
  frame[23] = protocol;
  uint8_t* ip = &frame[14];
  uint8_t* transport = &frame[34];
  store16(ip + 14, uint16_t(sender));
  store16(ip + 12, uint16_t(10 << 8 | (sender >> 16 & 255)));
  store16(transport, port);
  if (protocol == kIpUdp) store16(transport + 4, 20);
  if (protocol == kIpTcp) transport[13] = flags;
  if (answer) {
    for (int i = 0; i < 4; i++) std::swap(ip[12 + i], ip[16 + i]);
    for (int i = 0; i < 2; i++) std::swap(transport[i], transport[2 + i]);
  }
  Ipv4::finish(ip);
  return frame;
}

// UDP with DF and this many bytes behind its header.
inline Bytes datagram(uint32_t length, uint32_t sender = 0x010002, uint16_t port = 40000) {
  Bytes f = packet(kIpUdp, sender, port, 0);
  f.resize(42);
  f.resize(42 + length, 'x');
  store16(&f[16], uint16_t(28 + length));
  store16(&f[38], uint16_t(8 + length));
  Ipv4::finish(&f[14]);
  return f;
}

// Turned round by an instance, as one frame.
inline CollectedFrame turned(CollectedFrame f) {
  Frame frame{f.bytes.data(), uint32_t(f.bytes.size()), uint32_t(f.bytes.size()), 0, f.offload, false};
  uint32_t datagrams;
  if (turn_round(frame, read_outer(frame), datagrams) != NodeDrop::count_) throw std::logic_error("not a frame for an instance");
  return f;
}

inline uint64_t dropped(const Engine& engine, DropReason reason) { return engine.counters().dropped[size_t(reason)].get(); }

}  // namespace weir::test
