// What the pipeline would do with a tuple, for people: the answer behind `weir trace`.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/flow.h"
#include "engine/program.h"

namespace weir {

// A live stream as it was at one moment.
struct FlowView {
  FlowKey key;
  uint32_t code = 0;
  Action action = Action::pass;
  Direction opened = Direction::out;
  bool opener_is_a = false;
  TcpState tcp = TcpState::none;
  uint32_t policy = kNoPolicy;
  uint32_t path = 0;
  uint16_t capture = 0;
  uint64_t packets = 0, bytes = 0, idle_ms = 0;
  std::vector<uint16_t> pins;  // instance ids in chain order
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
