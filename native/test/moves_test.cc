// Streams that are moved to another path while packets of theirs are on the way on the old one.
#include <doctest/doctest.h>

#include <numeric>

#include "frames.h"

using namespace weir;
using namespace weir::test;

namespace {

// Of program(): which instance a stamped frame goes to.
uint16_t met(const std::vector<CollectedFrame>& frames) {
  REQUIRE(frames.size() == 1);
  return uint16_t(frames[0].bytes[5] - 11);
}

// Paths 1, 2 … with these services, each moved to the last. From then on new streams all but never choose `shunned`.
std::shared_ptr<Program> moved(std::vector<std::vector<uint16_t>> paths, uint16_t shunned) {
  auto p = program(Encapsulation::nsh);
  p->paths.clear();
  const uint32_t last = uint32_t(paths.size());
  for (uint32_t i = 0; i < last; i++)
    p->paths.push_back({.id = i + 1, .chain = 0, .moved_to = i + 1 == last ? 0 : last, .services = std::move(paths[i])});
  p->chains = {{0, last}};
  for (Instance& i : p->instances) i.weight = i.id == shunned ? 1 : 60000;
  const std::string error = p->check();
  REQUIRE(error.empty());
  return p;
}

// Services 0, 1 … with two instances each, 2i and 2i + 1. New streams all but never choose `shunned`.
void set_services(Program& p, uint16_t services, uint16_t shunned) {
  p.services.clear();
  p.instances.clear();
  for (uint16_t i = 0; i < 2 * services; i++) {
    if (i % 2 == 0) p.services.push_back({.id = uint16_t(i / 2)});
    p.instances.push_back({.id = i, .service = uint16_t(i / 2), .address = ip(10, 20, 0, uint8_t(11 + i)), .mac = {{2, 0, 0, 0, 0, uint8_t(11 + i)}},
                           .resolved = true, .weight = uint16_t(i == shunned ? 1 : 60000), .seed = {i, uint32_t(i * 77)}});
  }
}

}  // namespace

TEST_CASE("a packet under way meets the instance of its old path, though the stream's new path lacks the service and weights have changed") {
  for (uint16_t port = 1000; port < 1040; port++) {
    Engine engine({1000});
    engine.install(program(Encapsulation::nsh));
    const Bytes packet = test::packet(kIpTcp, 0x010002, port, Tcp::kSyn);
    const std::vector<CollectedFrame> first = process(engine, 1, packet);
    const CollectedFrame back = turned(first.at(0));
    const uint16_t second = met(process(engine, 0, back.bytes));
    REQUIRE(second >= 2);

    engine.install(moved({{0, 1}, {0}}, second));
    CHECK(met(process(engine, 1, packet)) == met(first));  // the stream is on the new path now
    CHECK(met(process(engine, 0, back.bytes)) == second);

    // Without the other service too, the packet still knows its way; and a stream whose path has the service again finds its instance.
    engine.install(moved({{0, 1}, {0}, {}}, second));
    CHECK(process(engine, 1, packet).size() == 1);
    CHECK(met(process(engine, 0, back.bytes)) == second);
    engine.install(moved({{0, 1}, {0}, {}, {1}}, second));
    CHECK(met(process(engine, 1, packet)) == second);
    CHECK(met(process(engine, 0, back.bytes)) == second);
  }
}

TEST_CASE("so it does when the stream's policy was changed with `existing: move`, and along chains of more than four services") {
  for (uint16_t port = 1000; port < 1020; port++) {
    auto wide = [](uint32_t chain, uint16_t shunned) {
      auto p = program(Encapsulation::nsh);
      set_services(*p, 6, shunned);
      p->paths = {{.id = 1, .chain = 0, .services = {0, 1, 2, 3, 4, 5}}, {.id = 2, .chain = 1, .services = {5}}};
      p->chains = {{0, 1}, {1, 2}};
      p->rules = {{.action = Action::chain, .chain = chain, .policy = chain}};
      if (chain) p->moves = {{chain, 1}};
      REQUIRE(p->check() == "");
      return p;
    };
    Engine engine({1000});
    engine.install(wide(0, kNoInstance));
    const Bytes packet = test::packet(kIpTcp, 0x010002, port, Tcp::kSyn);
    std::vector<CollectedFrame> at = process(engine, 1, packet);
    uint16_t instances[6];
    CollectedFrame back;
    for (int i = 0; i < 6; i++) {
      instances[i] = met(at);
      if (i == 3) back = turned(at[0]);
      at = process(engine, 0, turned(at[0]).bytes);
    }
    engine.install(wide(1, instances[4]));
    CHECK(met(process(engine, 1, packet)) == instances[5]);
    CHECK(met(process(engine, 0, back.bytes)) == instances[4]);
  }
}

TEST_CASE("so it does when a change of policies lets its stream pass no service at all, and when another change brings the stream back") {
  for (const uint16_t hops : {2, 6}) {
    for (uint16_t port = 1000; port < 1020; port++) {
      // `passes`: what decides the stream is policy 1, which lets it pass; else policy 0, with the chain.
      auto with = [&](bool passes, uint16_t shunned, uint32_t moves) {
        auto p = program(Encapsulation::nsh);
        set_services(*p, hops, shunned);
        std::vector<uint16_t> services(hops);
        std::iota(services.begin(), services.end(), uint16_t(0));
        p->paths = {{.id = 1, .chain = 0, .services = services}};
        p->chains = {{0, 1}};
        p->rules = {{.action = passes ? Action::pass : Action::chain, .chain = 0, .policy = passes ? 1u : 0u}};
        if (moves) p->moves = {{passes ? 1u : 0u, moves}};
        REQUIRE(p->check() == "");
        return p;
      };
      Engine engine({1000});
      engine.install(with(false, kNoInstance, 0));
      const Bytes packet = test::packet(kIpTcp, 0x010002, port, Tcp::kSyn);
      const std::vector<CollectedFrame> first = process(engine, 1, packet);
      std::vector<CollectedFrame> at = first;
      CollectedFrame back;
      for (uint16_t i = 1; i < hops; i++) {
        back = turned(at.at(0));
        at = process(engine, 0, back.bytes);
      }
      const uint16_t last = met(at);
      engine.install(with(true, last, 1));
      CHECK(process(engine, 1, packet).at(0).port == 2);  // the stream passes now
      CHECK(met(process(engine, 0, back.bytes)) == last);
      engine.install(with(false, met(first), 2));
      at = process(engine, 1, packet);
      CHECK(met(at) == met(first));
      for (uint16_t i = 1; i < hops; i++) at = process(engine, 0, turned(at.at(0)).bytes);
      CHECK(met(at) == last);
    }
  }
}

TEST_CASE("what a stream before it had in the same row of the table is no instance of its own") {
  // `wide`: new streams go along six services, else along the last; the instance `shunned` is all but never chosen.
  auto with = [](bool wide, uint16_t shunned, uint32_t moves) {
    auto p = program(Encapsulation::nsh);
    set_services(*p, 6, shunned);
    p->paths = {{.id = 1, .chain = 0, .services = {0, 1, 2, 3, 4, 5}}, {.id = 2, .chain = 1, .services = {0}}};
    p->chains = {{0, 1}, {1, 2}};
    p->rules = {{.action = Action::chain, .chain = wide ? 0u : 1u, .policy = wide ? 0u : 1u}};
    if (moves) p->moves = {{0, moves}};
    REQUIRE(p->check() == "");
    return p;
  };
  auto fifth = [](Engine& engine, const Bytes& packet) {
    std::vector<CollectedFrame> at = process(engine, 1, packet);
    for (int i = 0; i < 4; i++) at = process(engine, 0, turned(at.at(0)).bytes);
    return met(at);
  };
  for (uint16_t port = 1000; port < 1020; port++) {
    Engine engine({1});  // one row, and some to spare
    engine.install(with(true, 9, 0));
    for (uint16_t before = 0; before < 200; before++) CHECK(fifth(engine, test::packet(kIpTcp, 0x010003, uint16_t(2000 + before), Tcp::kSyn)) == 8);
    engine.install(with(false, 8, 0));
    const Bytes packet = test::packet(kIpTcp, 0x010002, port, Tcp::kSyn);
    CHECK(process(engine, 1, packet).size() == 1);
    engine.install(with(true, 8, 2));
    CHECK(fifth(engine, packet) == 9);
  }
}
