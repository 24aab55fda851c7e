// The pipeline in memory, on one core: what each stage costs, by the number of streams; what a new stream costs; what the
// classifier costs, by the number of rules.
#include <algorithm>
#include <cinttypes>

#include "engine_calls.h"
#include "run_time.h"
#include "wire/ip.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "engine_bench streams COUNT SECONDS [nsh|geneve]\n"
    "       engine_bench rules COUNT SECONDS\n"
    "       engine_bench expiry COUNT\n"
    "streams: opens COUNT streams (1 to 16777216), then takes packets of them at random; nanoseconds of each stage for itself\n"
    "and of all together. rules: compiles COUNT rules (0 to 1000000) of which none matches; nanoseconds of a miss. expiry: opens\n"
    "COUNT streams whose time is over all at once; microseconds that packets wait while one step of the expiry is done.";

constexpr uint32_t kBatch = 256, kFrameBytes = 64, kHeadroom = 192;

class Random {  // xorshift64*: good enough, and cheaper than what is measured
 public:
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  uint32_t below(uint32_t n) { return uint32_t((next() >> 32) * n >> 32); }

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15;
};

// Frames in memory as a ring has them: freshly written, with room before each.
class FrameBatch {
 public:
  FrameBatch() : memory_(new uint8_t[kBatch * kSlot]()), frames_(kBatch) {}

  // UDP from one of 2^24 sources.
  void write(uint32_t i, uint32_t stream) {
    uint8_t* bytes = memory_.get() + size_t(i) * kSlot + kHeadroom;
    static constexpr uint8_t kEthernet[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
    std::memset(bytes, 0, kFrameBytes);
    std::memcpy(bytes, kEthernet, sizeof kEthernet);
    uint8_t* ip = bytes + 14;
    ip[0] = 0x45;
    store16(ip + 2, kFrameBytes - 14);
    ip[8] = 64;
    ip[9] = kIpUdp;
    store32(ip + 12, 0x0a400000 + (stream >> 14));
    store32(ip + 16, 0x0a090103);
    store16(ip + 20, uint16_t(16384 + (stream & 16383)));
    store16(ip + 22, 9);
    store16(ip + 24, kFrameBytes - 34);
    Ipv4::finish(ip);
    frames_[i] = Frame{bytes, kFrameBytes, kFrameBytes, kHeadroom, {}, false};
  }
  std::span<Frame> frames(uint32_t n = kBatch) { return {frames_.data(), n}; }

 private:
  static constexpr uint32_t kSlot = 384;
  std::unique_ptr<uint8_t[]> memory_;
  std::vector<Frame> frames_;
};

// Keeps the compiler from leaving out what nobody looks at.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

class Stopwatch {
 public:
  void start() { before_ = cpu_seconds_now(); }
  void stop(uint64_t items) {
    total_ += cpu_seconds_now() - before_;
    items_ += items;
  }
  double nanoseconds_each() const { return total_ * 1e9 / double(items_); }
  double seconds() const { return total_; }

 private:
  double before_ = 0, total_ = 0;
  uint64_t items_ = 0;
};

Tuple tuple_of(const Packet& packet) {
  Tuple tuple = packet.tuple;
  tuple.tenant = 0;
  tuple.direction = Direction::out;
  return tuple;
}

int measure_streams(uint32_t streams, double seconds, Encapsulation encapsulation) {
  const RunTime time(0);
  Engine engine({.flows = streams});
  auto program = make_program(encapsulation, {{.action = Action::chain}}, Action::pass);
  compile(*program);
  engine.install(program);
  CountingSink sink;
  FrameBatch batch;
  uint64_t now = 1;
  constexpr uint64_t kBatchTime = kBatch * 150;  // of the engine's clock

  Stopwatch setup;
  for (uint32_t first = 0; first < streams; first += kBatch, now += kBatchTime) {
    const uint32_t n = std::min(kBatch, streams - first);
    for (uint32_t i = 0; i < n; i++) batch.write(i, first + i);
    setup.start();
    process_batch(engine, now, batch.frames(n), sink);
    setup.stop(n);
  }
  if (streams_open(engine) != streams || sink.frames != streams) {
    std::fprintf(stderr, "of %u streams %" PRIu64 " were opened and %" PRIu64 " frames stamped\n", streams, streams_open(engine), sink.frames);
    return 1;
  }

  Stopwatch parse, hash, lookup, hit;
  Random random;
  std::vector<FlowKey> keys(kBatch);
  std::vector<uint64_t> hashes(kBatch);
  std::vector<Tuple> tuples(kBatch);
  uint64_t packets = 0;
  auto fill = [&] {
    for (uint32_t i = 0; i < kBatch; i++) batch.write(i, random.below(streams));
  };
  // Stages and whole in turns, each on streams of its own, so that none warms the cache for the next.
  while (hit.seconds() < seconds) {
    fill();
    parse.start();
    for (uint32_t i = 0; i < kBatch; i++) {
      const Packet packet = parse_frame(batch.frames()[i]);
      keep(packet);
    }
    parse.stop(kBatch);
    for (uint32_t i = 0; i < kBatch; i++) tuples[i] = tuple_of(parse_frame(batch.frames()[i]));
    hash.start();
    for (uint32_t i = 0; i < kBatch; i++) {
      keys[i] = flow_key(tuples[i]);
      hashes[i] = affinity_hash(program->affinity_key, keys[i], Affinity::five_tuple);
    }
    hash.stop(kBatch);
    lookup.start();
    for (uint32_t i = 0; i < kBatch; i++) {
      const Flow* flow = find_stream(engine, keys[i], hashes[i]);
      if (!flow) return std::fprintf(stderr, "a stream is lost\n"), 1;
      keep(flow->code);
    }
    lookup.stop(kBatch);
    for (int turn = 0; turn < 8; turn++) {
      fill();
      now += kBatchTime;
      hit.start();
      process_batch(engine, now, batch.frames(), sink);
      hit.stop(kBatch);
      packets += kBatch;
    }
  }
  if (sink.frames != streams + packets) return std::fprintf(stderr, "not every frame was stamped\n"), 1;

  Report("engine_bench")
      .count("streams", streams).number("setup_ns", setup.nanoseconds_each()).number("parse_ns", parse.nanoseconds_each())
      .number("hash_ns", hash.nanoseconds_each()).number("lookup_ns", lookup.nanoseconds_each()).number("hit_ns", hit.nanoseconds_each())
      .number("packets_per_second", 1e9 / hit.nanoseconds_each()).number("streams_per_second", 1e9 / setup.nanoseconds_each())
      .print(time);
  return 0;
}

// Work of some microseconds that touches no memory: what takes long in it is not the program's.
void spin() {
  for (int i = 0; i < 20'000; i++) asm volatile("");
}

// A worker's loop from the moment when all streams are over: a batch of packets, which open streams, then a step of the expiry. No
// packet can be taken while that step is done.
int measure_expiry(uint32_t streams) {
  constexpr uint32_t kTogether = 16;
  constexpr uint64_t kIdleNs = 121'000'000'000;
  const RunTime time(0);
  Engine engine({.flows = streams + 1024, .touched = true});
  auto program = make_program(Encapsulation::nsh, {{.action = Action::chain}}, Action::pass);
  compile(*program);
  engine.install(program);
  CountingSink sink;
  FrameBatch batch;
  uint64_t now = 1;
  for (uint32_t first = 0; first < streams; first += kBatch) {
    const uint32_t n = std::min(kBatch, streams - first);
    for (uint32_t i = 0; i < n; i++) batch.write(i, first + i);
    engine.process(++now, capture_in_port(0), batch.frames(n), sink);
    sink.flush();
  }
  if (streams_open(engine) != streams) return std::fprintf(stderr, "not all streams were opened\n"), 1;

  now += kIdleNs;
  const double begin = seconds_now();
  std::vector<double> wall, cpu, machine;
  for (uint32_t opened = streams; streams_expired(engine) < streams; opened += kTogether) {
    const uint64_t at = now + uint64_t((seconds_now() - begin) * 1e9);
    for (uint32_t i = 0; i < kTogether; i++) batch.write(i, opened + i);
    engine.process(at, capture_in_port(0), batch.frames(kTogether), sink);
    sink.flush();
    const double before = seconds_now(), cpu_before = cpu_seconds_now();
    engine.tick(at);
    cpu.push_back((cpu_seconds_now() - cpu_before) * 1e6);
    wall.push_back((seconds_now() - before) * 1e6);
    const double spin_before = cpu_seconds_now();
    spin();
    machine.push_back((cpu_seconds_now() - spin_before) * 1e6);
  }
  std::sort(wall.begin(), wall.end());
  std::sort(cpu.begin(), cpu.end());
  std::sort(machine.begin(), machine.end());
  const size_t last = wall.size() - 1;
  auto over = [](const std::vector<double>& sorted) { return uint64_t(sorted.end() - std::upper_bound(sorted.begin(), sorted.end(), 50.0)); };
  Report("engine_bench")
      .count("streams", streams).count("steps", wall.size()).number("median_us", wall[last / 2]).number("most_999_us", cpu[last - last / 1000])
      .number("longest_us", wall[last]).number("longest_cpu_us", cpu[last]).count("over_50_us", over(cpu))
      .number("machine_median_us", machine[last / 2]).number("machine_longest_cpu_us", machine[last]).count("machine_over_50_us", over(machine)).number("expiry_seconds", seconds_now() - begin)
      .print(time);
  return 0;
}

// Prefixes, ranges and wildcards, v4 and v6; near the packets below, but none matches them: those go to port 9.
std::vector<Rule> random_rules(uint32_t count) {
  Random random;
  std::vector<Rule> rules;
  rules.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    Rule rule{.action = Action::chain, .policy = i % (kMaxPolicyIds - 1)};
    const uint16_t port = uint16_t(1000 + random.below(50'000));
    switch (i % 5) {
      case 0:  // a network to a range of ports
        rule.source = ipv4(0x0a400000u | (random.below(1 << 14) << 8));
        rule.source_prefix = 120;
        rule.destination_port[0] = port;
        rule.destination_port[1] = uint16_t(port + 100);
        break;
      case 1:  // a host's service
        rule.destination = ipv4(0xac100000u | random.below(1 << 20));
        rule.destination_prefix = 128;
        rule.protocol = kIpTcp;
        rule.destination_port[0] = rule.destination_port[1] = port;
        break;
      case 2:  // IPv6 networks of both ends
        rule.source.bytes = {0xfd, 1, 0, 0, uint8_t(random.below(256)), uint8_t(random.below(256))};
        rule.source_prefix = 64;
        rule.destination.bytes = {0xfd, 2, 0, 0, uint8_t(random.below(256))};
        rule.destination_prefix = 48;
        break;
      case 3:  // from a port, whoever it is
        rule.protocol = kIpTcp;
        rule.source_port[0] = port;
        rule.source_port[1] = uint16_t(port + 10);
        break;
      case 4:  // a wide network of both protocols to one port
        rule.source = ipv4(0x0a400000u | (random.below(1 << 6) << 16));
        rule.source_prefix = 112;
        rule.protocol = i % 2 ? kIpTcp : kIpUdp;
        rule.destination_port[0] = rule.destination_port[1] = port;
        break;
    }
    rules.push_back(rule);
  }
  return rules;
}

int measure_rules(uint32_t count, double seconds) {
  const RunTime time(0);
  auto program = make_program(Encapsulation::nsh, random_rules(count), Action::pass);
  Stopwatch compiling;
  compiling.start();
  compile(*program);
  compiling.stop(1);

  Random random;
  std::vector<Tuple> tuples(4096);
  for (Tuple& t : tuples) {
    t.source = ipv4(0x0a400000u | random.below(1 << 22));
    t.destination = ipv4(0xac100000u | random.below(1 << 20));
    t.source_port = uint16_t(1024 + random.below(60'000));
    t.destination_port = 9;
    t.protocol = kIpUdp;
  }
  Stopwatch miss;
  for (size_t at = 0; miss.seconds() < seconds; at = (at + 64) % tuples.size()) {
    miss.start();
    for (size_t i = at; i < at + 64; i++) {
      const Classification found = classify(*program, tuples[i]);
      if (found.policy != kNoPolicy) return std::fprintf(stderr, "a rule matched that should not\n"), 1;
    }
    miss.stop(64);
  }
  Report("engine_bench").count("rules", count).number("compile_ms", compiling.seconds() * 1e3).number("miss_ns", miss.nanoseconds_each()).print(time);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (argc < 3 || argc > 5) usage(kUsage);
  const double count = number_argument(argv[2], kUsage);
  if (mode == "expiry" && count >= 1 && count <= 1 << 24 && argc == 3) return measure_expiry(uint32_t(count));
  if (argc < 4) usage(kUsage);
  const double seconds = number_argument(argv[3], kUsage);
  if (mode == "streams" && count >= 1 && count <= 1 << 24) {
    const std::string_view encapsulation = argc == 5 ? argv[4] : "nsh";
    if (encapsulation != "nsh" && encapsulation != "geneve") usage(kUsage);
    return measure_streams(uint32_t(count), seconds, encapsulation == "nsh" ? Encapsulation::nsh : Encapsulation::geneve);
  }
  if (mode == "rules" && count <= 1e6 && argc == 4) return measure_rules(uint32_t(count), seconds);
  usage(kUsage);
}
