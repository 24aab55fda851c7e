// The flow table's file: what a process after this one finds, and when it is let alone.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <map>

#include "flow_file_run.h"

using namespace weir;
using namespace weir::test;

TEST_CASE("streams go on with path and instances after their process is gone, whatever a new stream would get") {
  const Name name;
  std::map<uint16_t, int> before;
  {
    Run run(options(name.path));
    REQUIRE(run.error.empty());
    CHECK(run.adopted.kept == 0);
    for (uint16_t port = 2000; port < 2500; port++) before[port] = instance_of(*run.engine, port);
  }
  Run run(options(name.path), more_instances(), 2 * kSecond);
  CHECK(run.error == "");
  CHECK(run.adopted.kept == 500);
  CHECK(run.engine->flows().size() == 500);
  CHECK(run.engine->counters().streams_active.get() == 500);
  CHECK(run.engine->counters().path_streams[1].get() == 500);
  CHECK(pinned(*run.engine) == 1000);
  int others = 0;
  Engine fresh({1000, 16});
  fresh.install(more_instances());
  for (const auto& [port, instance] : before) {
    CHECK(instance_of(*run.engine, port, 3 * kSecond) == instance);
    others += instance_of(fresh, port) != instance;
  }
  CHECK(others > 250);  // a hash alone would have moved most of them
  CHECK(run.engine->counters().streams_opened.get() == 0);
  // They end as they would have ended.
  for (int i = 0; i < 100; i++) run.engine->tick(130 * kSecond + uint64_t(i) * kSecond);
  CHECK(run.engine->flows().size() == 0);
  CHECK(pinned(*run.engine) == 0);
}

TEST_CASE("each kind of entry that leads nowhere is let go, and counted") {
  const Name name;
  {
    Run run(options(name.path));
    for (uint16_t port = 1; port <= 10; port++) instance_of(*run.engine, port, uint64_t(port) * kSecond);
  }
  {
    Run run(options(name.path), program(Encapsulation::nsh), 124 * kSecond);
    CHECK(run.adopted.expired == 4);
    CHECK(run.adopted.kept == 6);
  }
  {
    Run run(options(name.path), program(Encapsulation::nsh, 5), 10 * kSecond);
    CHECK(run.adopted.no_path == 6);
    CHECK(run.adopted.kept == 0);
    for (uint16_t port = 1; port <= 6; port++) instance_of(*run.engine, port, 10 * kSecond);
  }
  auto fewer = program(Encapsulation::nsh, 5);
  fewer->instances.erase(fewer->instances.begin());
  REQUIRE(fewer->check().empty());
  {
    Run run(options(name.path), fewer, 10 * kSecond);
    CHECK(run.adopted.kept == 6);
    CHECK(run.adopted.repinned > 0);
    CHECK(pinned(*run.engine) == 12 - run.adopted.repinned);
    for (uint16_t port = 1; port <= 6; port++) CHECK(instance_of(*run.engine, port, 10 * kSecond) == 12);
    CHECK(pinned(*run.engine) == 12);
  }
  auto other = program(Encapsulation::nsh, 5);
  other->captures[0].tenant = 9;
  REQUIRE(other->check().empty());
  Run run(options(name.path), other, 10 * kSecond);
  CHECK(run.adopted.no_capture == 6);
  CHECK(run.engine->flows().size() == 0);
}

TEST_CASE("a process that died while it changed an entry costs that stream only") {
  const Name name;
  {
    Run run(options(name.path));
    for (uint16_t port = 1; port <= 3; port++) instance_of(*run.engine, port);
  }
  const uint32_t odd = 0x12340001;
  patch(name.path, kEntriesAt + 2 * sizeof(Flow) + offsetof(Flow, version), &odd, 4);
  Run run(options(name.path));
  CHECK(run.adopted.damaged == 1);
  CHECK(run.adopted.kept == 2);
}

TEST_CASE("times to come, which only damage leaves, do not keep a stream for ever") {
  const Name name;
  {
    Run run(options(name.path));
    instance_of(*run.engine, 1);
  }
  const uint64_t late = ~uint64_t(0) - 5;
  patch(name.path, kEntriesAt + sizeof(Flow) + offsetof(Flow, last_seen_ns), &late, 8);
  Run run(options(name.path), program(Encapsulation::nsh), 5 * kSecond);
  CHECK(run.adopted.kept == 1);
  run.engine->tick(126 * kSecond);
  CHECK(run.engine->flows().size() == 0);
}

TEST_CASE("another boot, identity, key or layout, and fresh: an empty table, and the reason") {
  const Name name;
  auto fill = [&] {
    Run run(options(name.path));
    REQUIRE(run.error.empty());
    instance_of(*run.engine, 1);
  };
  auto empty = [&](const FlowFileOptions& o, const char* why) {
    Run run(o);
    CHECK(run.error == "");
    CHECK(run.file->note().find(why) != std::string::npos);
    CHECK(run.adopted.kept == 0);
    CHECK(run.engine->flows().size() == 0);
    instance_of(*run.engine, 9);
    CHECK(run.engine->flows().size() == 1);
  };
  FlowFileOptions o = options(name.path);
  fill(), o.boot_id[3] = 1, empty(o, "before the machine was started");
  o = options(name.path), fill(), o.identity = 8, empty(o, "another state directory");
  o = options(name.path), fill(), o.affinity_key[1]++, empty(o, "another affinity key");
  o = options(name.path), fill(), o.fresh = true, empty(o, "asked to start empty");
  const uint32_t layout = 99;
  o = options(name.path), fill(), patch(name.path, 8, &layout, 4), empty(o, "another layout");
  fill(), patch(name.path, 40, &layout, 4), empty(o, "damaged");
  fill();
  REQUIRE(truncate(name.path.c_str(), 3 << 20) == 0);
  empty(o, "cut short");
  fill();
  REQUIRE(truncate(name.path.c_str(), 10) == 0);
  empty(o, "no flow table");
}

TEST_CASE("a table of another size gets the streams that it has room for") {
  const Name name;
  std::map<uint16_t, int> before;
  {
    Run run(options(name.path));
    for (uint16_t port = 2000; port < 2500; port++) before[port] = instance_of(*run.engine, port);
  }
  {
    Run run(options(name.path, 5000), more_instances());
    CHECK(run.error == "");
    CHECK(run.adopted.kept == 500);
    for (const auto& [port, instance] : before) CHECK(instance_of(*run.engine, port) == instance);
    CHECK(run.engine->counters().streams_opened.get() == 0);
  }
  Run run(options(name.path, 100), more_instances());
  CHECK(run.adopted.kept == 100);
  CHECK(run.adopted.no_room == 400);
  CHECK(run.engine->counters().streams_active.get() == 100);
  CHECK(pinned(*run.engine) == 200);
}

TEST_CASE("pins of long chains are kept, and memory for them is taken when the first one comes") {
  const Name name;
  auto long_chain = [](uint16_t instances) {
    auto p = std::make_shared<Program>(*program(Encapsulation::nsh));
    p->services.clear(), p->instances.clear();
    p->paths[0].services.clear();
    for (uint16_t s = 0; s < 20; s++) {
      p->services.push_back({.id = s});
      p->paths[0].services.push_back(s);
      for (uint16_t i = 0; i < instances; i++) {
        const uint16_t id = uint16_t(s * 10 + i);
        p->instances.push_back({.id = id, .service = s, .address = ip(10, 30, uint8_t(s), uint8_t(1 + i)), .mac = {{2}}, .resolved = true, .seed = {id, uint32_t(id * 77)}});
      }
    }
    REQUIRE(p->check().empty());
    return p;
  };
  std::vector<FlowView> before;
  auto views = [](Engine& engine) {
    std::vector<FlowView> all;
    for (uint32_t n = 1; n <= engine.flows().high_water(); n++)
      if (const Flow* flow = engine.flows().at(n)) all.push_back(engine.view(*flow));
    return all;
  };
  for (const uint32_t capacity : {1000u, 1000u, 3000u, 3000u}) {
    Run run(options(name.path, capacity), long_chain(before.empty() ? 2 : 8));
    REQUIRE(run.error == "");
    if (before.empty()) {
      for (uint16_t port = 1; port <= 50; port++) instance_of(*run.engine, port);
      before = views(*run.engine);
      continue;
    }
    CHECK(run.adopted.kept == 50);
    CHECK(pinned(*run.engine) > 0);
    const std::vector<FlowView> after = views(*run.engine);
    REQUIRE(after.size() == 50);
    for (size_t i = 0; i < 50; i++) CHECK(after[i].pins == before[i].pins);
  }
  CHECK(before[0].pins.size() == 20);
}

TEST_CASE("a file that somebody uses, or that is not ours alone, is left alone") {
  const Name name, link;
  Run first(options(name.path));
  REQUIRE(first.error.empty());
  const Run second(options(name.path));
  CHECK(second.busy);
  CHECK(second.error.find("in use by another weir") != std::string::npos);
  CHECK(!FlowFile::remove_unused(name.path));
  REQUIRE(symlink(name.path.c_str(), link.path.c_str()) == 0);
  CHECK(Run(options(link.path)).error.find("symbolic link") != std::string::npos);
  first = Run(options("/nowhere/at/all"));
  CHECK(first.error.find("/nowhere/at/") != std::string::npos);
  REQUIRE(chmod(name.path.c_str(), 0644) == 0);
  CHECK(Run(options(name.path)).error.find("mode 0600") != std::string::npos);
  REQUIRE(chmod(name.path.c_str(), 0600) == 0);
  const Name fifo;
  REQUIRE(mkfifo(fifo.path.c_str(), 0600) == 0);
  CHECK(Run(options(fifo.path)).error.find("not a file of this user") != std::string::npos);
  CHECK(FlowFile::remove_unused(name.path));
  // On a disk nothing is made.
  CHECK(Run(options("/proc/self/weir")).error != "");
}

TEST_CASE("a clean end gives back what no stream needs: all of it where there is none") {
  const Name name;
  struct stat before, after;
  {
    Run run(options(name.path, 200'000));
    instance_of(*run.engine, 1);
    REQUIRE(stat(name.path.c_str(), &before) == 0);
    run.file->rest(1);
    REQUIRE(stat(name.path.c_str(), &after) == 0);
    CHECK(before.st_blocks * 512 > 200'000 * 128);
    CHECK(after.st_blocks * 512 < 4 << 20);
  }
  {
    Run run(options(name.path, 200'000));
    CHECK(run.adopted.kept == 1);
    run.file->rest(0);
  }
  CHECK(stat(name.path.c_str(), &after) != 0);
}

TEST_CASE("the same table is adopted once more by a process that goes on after all") {
  const Name name;
  Run run(options(name.path));
  std::map<uint16_t, int> before;
  for (uint16_t port = 1; port <= 100; port++) before[port] = instance_of(*run.engine, port);
  run.engine->forget_streams(*program(Encapsulation::nsh));
  CHECK(run.engine->adopt(kSecond, kTenants).kept == 100);
  CHECK(run.engine->counters().streams_active.get() == 100);
  CHECK(pinned(*run.engine) == 200);
  for (const auto& [port, instance] : before) CHECK(instance_of(*run.engine, port) == instance);
}
