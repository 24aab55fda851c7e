// What the pipeline would do with a tuple, for people: the answer behind `weir trace`.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/flow_table.h"
#include "engine/program.h"

namespace weir {

// A copy of a live stream's entry, safe to keep.
struct FlowView {
  Flow flow;
  std::vector<uint16_t> pins;
  uint64_t idle_ms = 0;
};

struct Decision {
  struct Hop {
    uint16_t service = 0;
    uint32_t code = 0;
    std::vector<uint16_t> ranked;
    uint16_t chosen = kNoInstance;
  };
  uint32_t code = 0;
  Action action = Action::pass;
  uint32_t policy = kNoPolicy;
  uint32_t chain = 0;
  uint32_t path = 0;
  std::vector<Hop> hops;
  std::optional<FlowView> live;
};

}  // namespace weir
