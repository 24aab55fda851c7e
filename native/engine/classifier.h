// Finds the policy of a stream's first packet: the first rule in order of precedence that matches.
#pragma once
#include "engine/flow_key.h"
#include "engine/program.h"

namespace weir {

struct Classification {
  Action action = Action::pass;
  uint32_t chain = 0;
  uint32_t policy = kNoPolicy;  // kNoPolicy: the default action
};

Classification classify(const Program& program, const Tuple& tuple);

// The same by asking one rule after the other: what an index must agree with, and faster than one for a handful of rules.
Classification classify_in_turn(const Program& program, const Tuple& tuple);

}  // namespace weir
