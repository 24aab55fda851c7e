// Frames of every kind, mutated at random, into every port: nothing may be read past its end, and whatever goes in is
// accounted for. WEIR_MUTATIONS sets how many (default 200,000), WEIR_SEED the seed.
#include <doctest/doctest.h>

#include <cstdlib>

#include "../fuzz/mutations.h"
#include "frames.h"

using namespace weir;
using namespace weir::test;

namespace {

const char* const kSeeds[] = {
    "0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972",                        // UDP
    "0200000000bb0200000000aa080045000028000140004006000a0a0100020a0200029c40005000000001000000005002ffff00000000",        // TCP SYN
    "0200000000bb0200000000aa8100000786dd6000000000081140fd010000000000000000000000000002fd0200000000000000000000000000029c40003500080000",
    "0200000000bb0200000000aa86dd600000000018003afd010000000000000000000000000002fd0200000000000000000000000000022c00000000000000110000010000000080004f1e00010001",
    "0200000000bb0200000000aa88a80064810000c808004500002c00010000400100000a0100020a0200020303000000000000450000200001000040110000080808080a010002",
    "02000000000102000000000c0800450000620000400040112657" "0a14000c0a140001" "f55112b6004e0000" "0c00000400000000" "0fc40203000002fe"
    "00000804f1737551" "0200000000bb0200000000aa0800" "4500002000010000401160ba0a01000208080808cf84270f000c0e5877656972",
    "02000000000102000000000c0800450000640000400040112655" "0a14000c0a140001" "f55117c1005000000800080000000000" "0108010200000000000000000108020200000000"
    "0002ff0001080301f1737551" "4500002000010000401160ba0a01000208080808cf84270f000c0e5877656972",
    "ffffffffffff0200000000aa08060001080006040001",
    "ffffffffffff0200000000aa080600010800060400010200000000aa0a0100020000000000000a010064",  // ARP and neighbour discovery for virtual addresses
    "3333ff0001000200000000aa86dd6000000000203afffd010000000000000000000000000002ff0200000000000000000001ff000100"
    "8700000000000000fd01000000000000000000000000010001010200000000aa",
};

uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

TEST_CASE("mutated frames never break the pipeline") {
  const uint64_t seed = number("WEIR_SEED", 1), rounds = number("WEIR_MUTATIONS", 200'000);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::vector<Bytes> corpus;
  for (const char* text : kSeeds) corpus.push_back(hex(text));
  for (const auto& [encapsulation, deliver] : {std::pair{Encapsulation::nsh, false}, {Encapsulation::geneve, false}, {Encapsulation::nsh, true}, {Encapsulation::geneve, true}}) {
    Engine engine({64, 16});
    auto p = program(encapsulation);
    p->paths[0].deliver = deliver;
    if (deliver) p->virtual_addresses = {{ip(10, 1, 0, 100), {{2, 1, 2, 3, 4, 5}}}, {Address::from_ipv6(hex("fd010000000000000000000000000100").data()), {{2, 1, 2, 3, 4, 6}}}};
    REQUIRE(p->check().empty());
    engine.install(p);
    for (uint64_t i = 0; i < rounds / 4; i++) {
      Bytes bytes = corpus[random() % corpus.size()];
      fuzz::mutate(bytes, random);
      const Offload offload = fuzz::random_offload(random);
      const PortId port = PortId(random() % 3);
      const auto out = process(engine, port, bytes, offload, i * 10'000'000, random() % 2, random() % 2);
      for (const auto& frame : out) REQUIRE(frame.port < 3);
      engine.tick(i * 10'000'000);
      REQUIRE(engine.counters().came() == engine.counters().went() + engine.fragments_held());
    }
    const Counters& c = engine.counters();
    // Returns among the seeds that no instance of their stream could have sent would test little.
    CHECK(c.returned.packets.get() > 0);
    if (deliver) {
      CHECK(c.neighbour_answers.get() > 0);
      CHECK(c.handed_over.packets.get() > 0);
    }
    CHECK(c.streams_active.get() == engine.flows().size());
    uint64_t pinned = 0;
    for (uint32_t id = 0; id < 4; id++) pinned += c.instances[id].streams.get();
    CHECK(pinned <= 2 * engine.flows().size());
    CHECK(c.path_streams[1].get() <= engine.flows().size());
  }
}
