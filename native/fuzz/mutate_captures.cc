// Every frame of capture files, damaged at random many times, through the whole pipeline: as it comes from a capture, and as
// instances send it back. No sanitizer may have anything to say, and every packet must be accounted for.
//   mutate_captures TIMES SEED FILE…
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "fuzz_input.h"
#include "mutations.h"
#include "node/stamped_datagram.h"
#include "port/capture_file.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

Address ip(uint8_t last) {
  const uint8_t bytes[4] = {10, 20, 0, last};
  return Address::from_ipv4(bytes);
}

// Two services through the underlay with two instances each, everything steered.
std::shared_ptr<Program> make_program(Encapsulation encapsulation, bool deliver) {
  auto p = std::make_shared<Program>();
  p->underlays[0].ipv4 = ip(1);
  p->captures = {{"web", 0, 1500}};
  p->services = {{.id = 0}, {.id = 1}};
  for (uint16_t i = 0; i < 4; i++)
    p->instances.push_back({.id = i, .service = uint16_t(i / 2), .address = ip(uint8_t(11 + i)), .mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}}, .resolved = true, .seed = {i, 7}});
  p->paths = {{.id = 1, .chain = 0, .encapsulation = encapsulation, .deliver = deliver, .services = {0, 1}}};
  p->chains = {{0, 1}};
  p->rules = {{.action = Action::chain}};
  CLAIM(p->check().empty());
  return p;
}

// An engine, and what it has last sent to an instance.
class Bench final : public Sink {
 public:
  Bench(Encapsulation encapsulation, bool deliver) : engine_({.flows = 64, .fragments = 16, .counters = {8, 4, 8, 8}}) { engine_.install(make_program(encapsulation, deliver)); }

  void run(PortId port, const std::vector<uint8_t>& bytes, const Offload& offload, bool unknown) {
    ExactFrame copy(bytes, 0);
    copy.frame.offload = unknown ? Offload{} : offload;
    copy.frame.offload_unknown = unknown;
    now_ += 1'000'000;
    engine_.process(now_, port, copy.frame, *this);
    engine_.tick(now_);
    for (CollectedFrame& out : collector_.frames())
      if (out.port == kUnderlayPort) stamped_ = std::move(out);
    collector_.clear();
    const Counters& c = engine_.counters();
    CLAIM(c.came() == c.went() + engine_.fragments_held());
    CLAIM(c.streams_active.get() == engine_.flows().size());
  }

  // What an instance that lets everything through would give back of the last; false if there is none.
  bool returned(std::vector<uint8_t>& bytes, Offload& offload) {
    bytes = stamped_.bytes;
    offload = stamped_.offload;
    if (bytes.empty()) return false;
    Frame frame{bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, offload, false};
    uint32_t datagrams;
    turn_round(frame, read_outer(frame), datagrams);
    return true;
  }

  uint8_t* scratch(uint32_t n) override { return collector_.scratch(n); }
  void emit(const OutFrame& frame) override { collector_.emit(frame); }
  bool carries(PortId, uint8_t) const override { return true; }

 private:
  Engine engine_;
  FrameCollector collector_;
  CollectedFrame stamped_{};
  uint64_t now_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: mutate_captures TIMES SEED FILE…\n");
    return 2;
  }
  const uint64_t times = std::strtoull(arguments[1], nullptr, 10);
  std::mt19937_64 random(std::strtoull(arguments[2], nullptr, 10));
  Bench benches[] = {{Encapsulation::nsh, false}, {Encapsulation::geneve, false}, {Encapsulation::nsh, true}, {Encapsulation::geneve, true}};
  uint64_t frames = 0, runs = 0;
  for (int i = 3; i < count; i++) {
    CaptureReader reader;
    if (const std::string error = reader.open(arguments[i]); !error.empty()) {
      std::fprintf(stderr, "%s\n", error.c_str());
      return 1;
    }
    uint64_t of_file = 0;
    std::array<CaptureRecord, 32> records;
    while (const uint32_t n = reader.read(records)) {
      for (uint32_t at = 0; at < n; at++) {
        if (!records[at].usable) continue;
        const std::vector<uint8_t> frame(records[at].frame.bytes, records[at].frame.bytes + records[at].frame.length);
        of_file++;
        for (uint64_t k = 0; k < times; k++, runs++) {
          Bench& bench = benches[k % 4];
          std::vector<uint8_t> bytes = frame;
          Offload offload = random_offload(random);
          const bool back = k % 3 == 2 && bench.returned(bytes, offload);
          if (k >= 8) mutate(bytes, random);  // first as it is
          bench.run(back ? kUnderlayPort : PortId(1 + random() % 2), bytes, offload, random() % 2);
        }
      }
    }
    if (!reader.error().empty()) std::fprintf(stderr, "%s: %s\n", arguments[i], reader.error().c_str());
    std::printf("%s: %llu frames\n", arguments[i], static_cast<unsigned long long>(of_file));
    std::fflush(stdout);
    frames += of_file;
  }
  std::printf("%llu frames, %llu times through the pipeline\n", static_cast<unsigned long long>(frames), static_cast<unsigned long long>(runs));
  return frames ? 0 : 1;
}
