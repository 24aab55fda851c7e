// Every call of the benchmark to the engine stands here: when the engine's interface changes, this file does.
#pragma once
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "engine/classifier.h"
#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "engine/packet.h"

namespace weir::bench {

// Takes what is emitted and forgets it.
class CountingSink final : public Sink {
 public:
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override {
    frames++;
    bytes += frame.length();
  }
  void flush() { arena_.reset(); }
  uint64_t frames = 0, bytes = 0;

 private:
  ScratchArena arena_;
};

// One batch as a worker gets it from a ring: all frames, then what is due between batches.
inline void process_batch(Engine& engine, uint64_t now_ns, std::span<Frame> frames, CountingSink& sink) {
  engine.process(now_ns, capture_in_port(0), frames, sink);
  sink.flush();
  engine.tick(now_ns);
}

inline const Flow* find_stream(const Engine& engine, const FlowKey& key, uint64_t hash) { return engine.flows().find(key, hash); }
inline uint64_t streams_expired(const Engine& engine) { return engine.counters().streams_expired.get(); }
inline uint64_t streams_open(const Engine& engine) { return engine.flows().size(); }

inline Address ipv4(uint32_t address) {
  uint8_t bytes[4];
  store32(bytes, address);
  return Address::from_ipv4(bytes);
}

// One service with two instances, a chain through it, and these rules.
inline std::shared_ptr<Program> make_program(Encapsulation encapsulation, std::vector<Rule> rules, Action otherwise) {
  auto p = std::make_shared<Program>();
  p->default_action = otherwise;
  p->underlays[0].ipv4 = ipv4(0x0a140001);
  p->underlays[0].mac = {{2, 0, 0, 0, 0, 1}};
  p->affinity_key[0] = 0x0706050403020100;
  p->affinity_key[1] = 0x0f0e0d0c0b0a0908;
  p->captures = {{"bench", 0, 1500}};
  p->services = {{.id = 0}};
  for (uint16_t i = 0; i < 2; i++)
    p->instances.push_back({.id = i, .service = 0, .address = ipv4(0x0a14000bu + i), .mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}}, .resolved = true, .seed = {i, i * 77u}});
  p->paths = {{.id = 1, .chain = 0, .encapsulation = encapsulation, .services = {0}}};
  p->chains = {{0, 1}};
  p->rules = std::move(rules);
  return p;
}

// What installing a program costs natively: checks and indices.
inline void compile(Program& program) {
  if (const std::string error = program.check(); !error.empty()) throw std::logic_error(error);
}

}  // namespace weir::bench
