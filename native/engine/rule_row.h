// A rule as TypeScript writes it: 64 little-endian bytes, laid out as RULE_BYTES in src/dataplane/native.ts.
#pragma once
#include <cstdint>

#include "engine/program.h"

namespace weir {

inline constexpr uint32_t kRuleBytes = 64;

Rule read_rule(const uint8_t* row);

}  // namespace weir
