// Taking over the streams that a table's memory holds from another process, which may have died anywhere: each entry is judged by
// itself, and none is believed. What can't be read, or leads nowhere any more, is let go; its stream is classified anew.
#pragma once
#include <cstdint>
#include <span>

#include "engine/counters.h"
#include "engine/flow_table.h"
#include "engine/program.h"

namespace weir {

struct AdoptionTerms {
  const Program& program;
  uint32_t sequence;  // of that program
  uint64_t now_ns;
  std::span<const uint32_t> tenants;  // of the captures that are what they were
};

struct Adoption {
  uint32_t kept = 0;
  uint32_t repinned = 0;  // of them: those an instance of which is gone, and chosen anew at the next packet
  uint32_t expired = 0, no_path = 0, no_capture = 0, damaged = 0, no_room = 0;

  void add(const Adoption& o) {
    kept += o.kept, repinned += o.repinned, expired += o.expired, no_path += o.no_path;
    no_capture += o.no_capture, damaged += o.damaged, no_room += o.no_room;
  }
};

// For the only user of a table with a file, while no worker runs. `counters` gets the streams by path and instance.
Adoption adopt_flows(FlowTable& table, const AdoptionTerms& terms, Counters& counters);

}  // namespace weir
