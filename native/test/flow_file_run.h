// A flow table with a file, as weir run has it, for the tests of what outlives a process.
#pragma once
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "engine/flow_adoption.h"
#include "engine/flow_file.h"
#include "frames.h"

namespace weir::test {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr size_t kEntriesAt = 2 << 20;
const uint32_t kTenants[] = {0};

inline uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// A name of its own on a tmpfs; the file goes with it.
struct Name {
  std::string path = "/dev/shm/weir-native-test-" + std::to_string(getpid()) + "-" + std::to_string(next++);
  static inline int next = 0;
  ~Name() { unlink(path.c_str()); }
};

inline FlowFileOptions options(const std::string& path, uint32_t capacity = 1000) {
  FlowFileOptions o;
  o.path = path;
  o.capacity = capacity;
  o.boot_id = {1, 2, 3};
  o.identity = 7;
  std::memcpy(o.affinity_key, program(Encapsulation::nsh)->affinity_key, 16);
  return o;
}

// As weir run has it.
struct Run {
  std::shared_ptr<FlowFile> file;
  std::unique_ptr<Engine> engine;
  Adoption adopted;
  std::string error;
  bool busy = false;

  Run(const FlowFileOptions& o, std::shared_ptr<Program> p = program(Encapsulation::nsh), uint64_t now = kSecond) {
    FlowFile::Opened opened = FlowFile::open(o);
    error = opened.error;
    busy = opened.busy;
    file = std::move(opened.file);
    if (!file) return;
    EngineLimits limits{o.capacity, 16};
    limits.file = file;
    engine = std::make_unique<Engine>(limits);
    error = engine->flows().reserve(p->longest_path());
    engine->install(std::move(p));
    adopted = engine->adopt(now, kTenants);
    if (error.empty()) error = file->publish();
  }
};

inline Bytes frame_of(uint16_t port) {
  Bytes bytes = hex("0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972");
  store16(&bytes[34], port);
  store16(&bytes[40], 0);  // no UDP checksum
  return bytes;
}

// Where a stream's packet goes to: the last byte of the outer destination, 0 if nowhere.
inline int instance_of(Engine& engine, uint16_t port, uint64_t now = kSecond) {
  const auto out = process(engine, 1, frame_of(port), {}, now);
  return out.size() == 1 && out[0].port == kUnderlayPort ? out[0].bytes[33] : 0;
}

inline std::shared_ptr<Program> more_instances() {
  auto p = program(Encapsulation::nsh);
  for (uint16_t i = 4; i < 12; i++)
    p->instances.push_back({.id = i, .service = uint16_t(i % 2), .address = ip(10, 20, 0, uint8_t(11 + i)), .mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}}, .resolved = true, .seed = {i, uint32_t(i * 77)}});
  REQUIRE(p->check().empty());
  return p;
}

inline uint64_t pinned(const Engine& engine) {
  uint64_t n = 0;
  for (uint32_t id = 0; id < 64; id++) n += engine.counters().instances[id].streams.get();
  return n;
}

inline void patch(const std::string& path, size_t offset, const void* bytes, size_t n) {
  const int fd = open(path.c_str(), O_RDWR);
  REQUIRE(pwrite(fd, bytes, n, off_t(offset)) == ssize_t(n));
  close(fd);
}

}  // namespace weir::test
