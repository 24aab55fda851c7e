#include "engine/flow_adoption.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/flow_file.h"

namespace weir {
namespace {

// What one thread has found; streams by index of path and instance in the program.
struct Tally {
  Adoption sum;
  std::vector<uint32_t> paths, instances;
  uint32_t first_free = 0, last_free = 0;
  uint32_t tenant = ~0u;  // the last one asked for, and its capture
  int capture = -1;

  explicit Tally(const Program& program) : paths(program.paths.size()), instances(program.instances.size()) {}
};

uint16_t pin_at(const Flow& flow, const uint16_t* far_pins, uint32_t i) {
  return i < Route::kInlinePins ? uint16_t(flow.pins >> 16 * i) : uint16_t(far_pins[i - Route::kInlinePins] - 1);
}

// A live entry: whether it may stay, and if so put right. Otherwise what is wrong with it is counted.
class Judge {
 public:
  Judge(const AdoptionTerms& terms, bool far_pins) : terms_(terms), far_(far_pins) {}

  int capture_of(uint32_t tenant) const {
    const auto& same = terms_.tenants;
    return std::find(same.begin(), same.end(), tenant) == same.end() ? -1 : terms_.program.capture_of_tenant(tenant);
  }

  bool keep(Flow& flow, uint16_t* far_pins, Tally& tally, uint64_t& hash) const {
    const Program& program = terms_.program;
    Adoption& sum = tally.sum;
    auto no = [](uint32_t& count) {
      count++;
      return false;
    };
    if ((flow.version & 1) || flow.hops > (far_ ? kMaxHops : Route::kInlinePins) || flow.version >> 16 != flow_seal(flow, far_pins)) return no(sum.damaged);
    hash = affinity_hash(program.affinity_key, flow.key, Affinity::five_tuple);
    if (uint32_t(hash) != flow.code || flow.key.vlans >> 24 || flow.tcp > kLastTcpState || flow.action > Action::chain) return no(sum.damaged);
    if (flow.policy != kNoPolicy && flow.policy >= kMaxPolicyIds) return no(sum.damaged);
    if (const uint32_t tenant = flow.key.tenant(); tenant != tally.tenant) tally.capture = capture_of(tally.tenant = tenant);
    if (tally.capture < 0) return no(sum.no_capture);
    const Path* path = flow.action == Action::chain ? program.path(flow.path) : nullptr;
    if (flow.action == Action::chain && !path) return no(sum.no_path);
    if (path ? flow.hops != path->hops() : flow.hops || flow.path) return no(sum.damaged);
    std::array<uint16_t, kMaxHops> pins;
    for (uint32_t i = 0; i < flow.hops; i++) {
      pins[i] = pin_at(flow, far_pins, i);
      const Instance* instance = program.instance(pins[i]);
      if (instance && instance->service != path->services[i]) return no(sum.damaged);
    }
    // A time to come, which only damage can leave, would never be over.
    if (flow.last_seen_ns > terms_.now_ns) flow.last_seen_ns = terms_.now_ns;
    if (idle_over(flow, terms_.now_ns, program.idle)) return no(sum.expired);

    // Of packets under way, which a restart or a takeover has cut off anyhow.
    if (flow.hops < Route::kInlinePins) flow.pins |= ~uint64_t(0) << 16 * flow.hops;
    for (uint32_t i = std::max<uint32_t>(flow.hops, Route::kInlinePins); far_ && i < kMaxHops; i++) far_pins[i - Route::kInlinePins] = 0;
    bool lost = false;
    for (uint32_t i = 0; i < flow.hops; i++) {
      if (pins[i] == kNoInstance) continue;
      const int32_t index = pins[i] < program.instance_index.size() ? program.instance_index[pins[i]] : -1;
      if (index >= 0) {
        tally.instances[size_t(index)]++;
      } else {
        lost = true;
        if (i < Route::kInlinePins) flow.pins |= uint64_t(0xffff) << 16 * i;
        else far_pins[i - Route::kInlinePins] = 0;
      }
    }
    if (path) tally.paths[size_t(program.path_index[flow.path])]++;
    sum.repinned += lost;
    flow.capture = uint16_t(tally.capture);
    flow.decided_by = terms_.sequence;
    flow.version = uint32_t(flow_seal(flow, far_pins)) << 16;
    return true;
  }

  // Takes back what keep() has counted.
  void drop(const Flow& flow, const uint16_t* far_pins, Tally& tally) const {
    const Program& program = terms_.program;
    for (uint32_t i = 0; i < flow.hops; i++)
      if (const uint16_t pin = pin_at(flow, far_pins, i); pin != kNoInstance) tally.instances[size_t(program.instance_index[pin])]--;
    if (flow.action == Action::chain) tally.paths[size_t(program.path_index[flow.path])]--;
  }

 private:
  const AdoptionTerms& terms_;
  const bool far_;
};

// Rows first … last where they are.
void adopt_rows(FlowTable& table, const FlowRows& rows, const Judge& judge, uint32_t first, uint32_t last, Tally& tally) {
  constexpr uint32_t kGroup = 16;
  struct Found {
    uint32_t number;
    uint64_t hash;
  };
  std::array<Found, kGroup> group;
  auto release = [&](uint32_t n) {
    Flow& flow = rows.entries[n];
    flow.life = Flow::Life::free;
    flow.policy = tally.first_free;
    tally.first_free = n;
    if (!tally.last_free) tally.last_free = n;
  };
  for (uint32_t n = first; n <= last;) {
    uint32_t found = 0;
    for (; n <= last && found < kGroup; n++) {
      Flow& flow = rows.entries[n];
      uint64_t hash = 0;
      if (flow.life != Flow::Life::live || !judge.keep(flow, rows.far_pins + size_t(n) * kFarPins, tally, hash)) {
        release(n);
        continue;
      }
      table.prefetch_slot(hash);
      group[found++] = {n, hash};
    }
    for (uint32_t i = 0; i < found; i++) {
      if (table.add_found(group[i].number, group[i].hash)) {
        tally.sum.kept++;
        continue;
      }
      judge.drop(rows.entries[group[i].number], rows.far_pins + size_t(group[i].number) * kFarPins, tally);
      release(group[i].number);
      tally.sum.no_room++;
    }
  }
}

// Rows of another table, as long as there is room.
void copy_rows(FlowTable& table, const FlowRows& from, const Judge& judge, Tally& tally) {
  const FlowRows to = table.rows();
  std::array<uint16_t, kFarPins> far_pins;
  for (uint32_t n = 1; n <= from.high_water; n++) {
    if (from.entries[n].life != Flow::Life::live) continue;
    Flow copy = from.entries[n];
    uint64_t hash = 0;
    if (copy.hops > Route::kInlinePins && copy.hops <= kMaxHops) std::memcpy(far_pins.data(), from.far_pins + size_t(n) * kFarPins, sizeof far_pins);
    if (!judge.keep(copy, far_pins.data(), tally, hash)) continue;
    Flow* flow = nullptr;
    if (!table.full() && !table.find(copy.key, hash) && table.reserve(copy.hops).empty()) flow = table.allocate(copy.key, hash, copy.last_seen_ns);
    if (!flow) {
      judge.drop(copy, far_pins.data(), tally);
      tally.sum.no_room++;
      continue;
    }
    copy.life = flow->life;
    *flow = copy;
    if (copy.hops > Route::kInlinePins) std::memcpy(to.far_pins + size_t(flow - to.entries) * kFarPins, far_pins.data(), sizeof far_pins);
    table.publish(flow, hash);
    tally.sum.kept++;
  }
}

}  // namespace

Adoption adopt_flows(FlowTable& table, const AdoptionTerms& terms, Counters& counters) {
  FlowFile& file = *table.file();
  const std::lock_guard lock(table.lock());
  table.forget_all();
  const FlowRows rows = file.rows(), found = file.found();
  const uint32_t high = rows.high_water;
  // A thread for each part that is worth one.
  constexpr uint32_t kPart = 1 << 15;
  const uint32_t threads = std::clamp(high / kPart, 1u, std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  std::vector<Tally> tallies(threads, Tally(terms.program));
  const Judge judge(terms, file.far_reserved(false));
  auto part = [&](uint32_t i) {
    const uint32_t first = 1 + uint32_t(uint64_t(high) * i / threads), last = uint32_t(uint64_t(high) * (i + 1) / threads);
    adopt_rows(table, rows, judge, first, last, tallies[i]);
  };
  std::vector<std::thread> others;
  for (uint32_t i = 1; i < threads; i++) others.emplace_back(part, i);
  part(0);
  for (std::thread& other : others) other.join();
  uint32_t free = 0;
  for (const Tally& t : tallies) {
    if (!t.first_free) continue;
    rows.entries[t.last_free].policy = free;
    free = t.first_free;
  }
  table.finish(high, free);
  if (found.entries) copy_rows(table, found, Judge(terms, file.far_reserved(true)), tallies[0]);

  Adoption sum;
  for (const Tally& t : tallies) {
    sum.add(t.sum);
    for (size_t i = 0; i < t.paths.size(); i++) counters.path_streams[terms.program.paths[i].id].add(t.paths[i]);
    for (size_t i = 0; i < t.instances.size(); i++) counters.instances[terms.program.instances[i].id].streams.add(t.instances[i]);
  }
  counters.streams_active.add(sum.kept);
  return sum;
}

}  // namespace weir
