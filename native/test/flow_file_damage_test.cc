// The flow table's file after the worst: damaged at random, or its process killed at any instant.
// WEIR_MUTATIONS sets how many damaged files are opened (a thousandth of it, default 200), WEIR_SEED the seed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "flow_file_run.h"

using namespace weir;
using namespace weir::test;

TEST_CASE("damaged files are opened, and used, without harm") {
  const uint64_t seed = number("WEIR_SEED", 1), rounds = number("WEIR_MUTATIONS", 200'000) / 1000;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr uint32_t kCapacity = 64;
  for (uint64_t round = 0; round < rounds; round++) {
    const Name name;
    {
      Run run(options(name.path, kCapacity));
      REQUIRE(run.error.empty());
      for (uint16_t port = 1; port <= 60; port++) instance_of(*run.engine, port);
    }
    const int fd = open(name.path.c_str(), O_RDWR);
    struct stat status;
    REQUIRE(fstat(fd, &status) == 0);
    auto* map = static_cast<uint8_t*>(mmap(nullptr, size_t(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    REQUIRE(map != MAP_FAILED);
    close(fd);
    for (uint64_t edits = 1 + random() % 64; edits; edits--) {
      size_t at = kEntriesAt + random() % (70 * sizeof(Flow));
      if (random() % 16 == 0) at = random() % 88;
      if (random() % 16 == 0) at = random() % size_t(status.st_size);
      if (random() % 4 == 0) at = 28 + random() % 8;  // high water, far pins
      switch (random() % 4) {
        case 0: map[at] ^= uint8_t(1 << random() % 8); break;
        case 1: map[at] = uint8_t(random()); break;
        case 2: map[at] = 0xff; break;
        case 3: {  // one entry over another: a key twice
          const size_t from = random() % 66, to = random() % 70;
          std::memmove(map + kEntriesAt + to * sizeof(Flow), map + kEntriesAt + from * sizeof(Flow), sizeof(Flow));
        }
      }
    }
    // Entries that pass their seal with whatever is in them.
    if (random() % 2)
      for (uint32_t n = 1; n <= 62; n++) {
        auto* flow = reinterpret_cast<Flow*>(map + kEntriesAt) + n;
        if (flow->hops <= Route::kInlinePins) flow->version = uint32_t(flow_seal(*flow, nullptr)) << 16;
      }
    munmap(map, size_t(status.st_size));
    if (random() % 32 == 0) REQUIRE(truncate(name.path.c_str(), long(random() % uint64_t(status.st_size * 2))) == 0);

    Run run(options(name.path, random() % 4 ? kCapacity : 32), random() % 2 ? program(Encapsulation::nsh) : more_instances());
    REQUIRE(run.error == "");
    const FlowTable& table = run.engine->flows();
    REQUIRE(table.size() <= table.capacity());
    CHECK(table.size() == run.adopted.kept);
    CHECK(run.engine->counters().streams_active.get() == table.size());
    CHECK(run.engine->counters().path_streams[1].get() <= table.size());
    for (uint16_t port = 1; port <= 200; port++) instance_of(*run.engine, port, kSecond + port);
    for (uint32_t n = 1; n <= table.high_water(); n++)
      if (const Flow* flow = table.at(n)) (void)run.engine->view(*flow);
    for (int i = 0; i < 4; i++)
      while (run.engine->tick(1000 * kSecond + uint64_t(i) * 2 * kSecond)) {
      }
    CHECK(table.size() == 0);
    CHECK(run.engine->counters().streams_active.get() == 0);
    CHECK(pinned(*run.engine) == 0);
    CHECK(run.engine->counters().path_streams[1].get() == 0);
  }
}

TEST_CASE("kill -9 at any instant while streams open, move and close: what is found is whole") {
  std::mt19937_64 random(number("WEIR_SEED", 1));
  uint64_t found = 0;
  for (int round = 0; round < 25; round++) {
    const Name name;
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      // Fewer entries than streams, and two workers on them.
      std::shared_ptr<FlowFile> file = FlowFile::open(options(name.path, 400)).file;
      file->publish();
      EngineLimits limits{400, 16};
      limits.file = file;
      auto state = std::make_shared<EngineState>(limits);
      state->program.install(program(Encapsulation::nsh));
      std::atomic<int> begun{0};
      auto work = [&](uint32_t worker) {
        Engine engine(state, worker);
        for (uint32_t i = worker * 7; ; i++) {
          instance_of(engine, uint16_t(1 + i % 1000), kSecond + i);
          engine.tick(kSecond + i);
          if (i == 1200 && begun.fetch_add(1) == 1 && write(ready[1], "x", 1) != 1) _exit(1);
        }
      };
      std::thread second(work, 1);
      work(0);
    }
    char byte;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    usleep(useconds_t(random() % 5000));
    REQUIRE(kill(child, SIGKILL) == 0);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    close(ready[0]);
    close(ready[1]);

    Run run(options(name.path, 400), program(Encapsulation::nsh), 2 * kSecond);
    REQUIRE(run.error == "");
    CHECK(run.adopted.damaged <= 1);  // the one under the table's lock
    CHECK(run.adopted.kept + run.adopted.damaged >= 390);
    CHECK(run.adopted.no_room == 0);
    found += run.adopted.kept;
    Engine fresh({1000, 16});
    fresh.install(program(Encapsulation::nsh));
    for (uint32_t n = 1; n <= run.engine->flows().high_water(); n++) {
      const Flow* flow = run.engine->flows().at(n);
      if (!flow) continue;
      const FlowView view = run.engine->view(*flow);
      const uint16_t port = view.opener_is_a ? view.key.port_a : view.key.port_b;
      const int expected = instance_of(fresh, port);
      CHECK(view.path == 1);
      REQUIRE(view.pins.size() == 2);
      CHECK(11 + view.pins[0] == expected);
      CHECK(instance_of(*run.engine, port, 2 * kSecond) == expected);
    }
  }
  MESSAGE("streams found after 25 kills: " << found);
}
