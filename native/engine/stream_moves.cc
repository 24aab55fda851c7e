// Streams that go another way from now on: where their path was moved to another, or where their policy was added, changed or taken
// out with `existing: move`, so that the classifier decides them anew.
#include <algorithm>

#include "engine/stream_table.h"

namespace weir {
namespace {

// As the packet that opened the stream had it.
Tuple opening_tuple(const Flow& flow) {
  const FlowKey& key = flow.key;
  const bool a = flow.opener_is_a;
  Tuple t;
  t.source = a ? key.a : key.b;
  t.destination = a ? key.b : key.a;
  t.source_port = a ? key.port_a : key.port_b;
  t.destination_port = a ? key.port_b : key.port_a;
  t.protocol = key.protocol();
  t.vlan_outer = uint16_t(key.vlans >> 12);
  t.vlan_inner = uint16_t(key.vlans & 0xfff);
  t.capture = flow.capture;
  t.tenant = key.tenant();
  t.direction = flow.opened;
  return t;
}

}  // namespace

uint32_t StreamTable::places(const Path* from, const Path* to) {
  return std::max(from ? from->hops() : 0, to ? to->hops() : 0) > Route::kInlinePins ? kMaxHops : Route::kInlinePins;
}

// The instance of this service that the stream has or had, or none.
uint16_t StreamTable::known_pin(const Flow* flow, const Route& route, uint32_t places, uint16_t service) const {
  for (uint32_t i = 0; i < places; i++) {
    const uint16_t pin = table_.pin(flow, route, i);
    const Instance* instance = pin == kNoInstance ? nullptr : program_->instance(pin);
    if (instance && instance->service == service) return pin;
  }
  return kNoInstance;
}

// What the stream has and had of services that are not on `to`, latest first.
StreamTable::FormerPins StreamTable::pins_not_on(const Flow* flow, const Route& route, uint32_t places, const Path* to) const {
  FormerPins former;
  for (uint32_t i = 0; i < places; i++) {
    const uint16_t pin = table_.pin(flow, route, i);
    const Instance* instance = pin == kNoInstance ? nullptr : program_->instance(pin);
    if (instance && (!to || to->position_of(instance->service) < 0)) former.pins[former.count++] = pin;
  }
  return former;
}

void StreamTable::set_former(Flow* flow, Route& route, uint32_t places, const FormerPins& former) {
  for (uint32_t i = route.hops, next = 0; i < places; i++) table_.set_pin(flow, route, i, next < former.count ? former.pins[next++] : kNoInstance);
}

void StreamTable::follow(Flow* flow, const Path& from, const Path& to) {
  const uint32_t all = places(&from, &to);
  table_.change_route(flow, [&](Route& r) {
    const FormerPins former = pins_not_on(flow, r, all, &to);
    uint16_t pins[kMaxHops];
    for (uint32_t i = 0; i < to.hops(); i++) {
      const uint16_t known = to.has_members() ? kNoInstance : known_pin(flow, r, all, to.services[i]);
      pins[i] = known != kNoInstance ? known : pick(flow, to, i);
    }
    for (uint32_t i = 0; i < r.hops; i++) set_pin(flow, r, i, kNoInstance);
    for (uint32_t i = 0; i < to.hops(); i++) set_pin(flow, r, i, pins[i]);
    r.hops = uint8_t(to.hops());
    r.path = to.id;
    r.decided_by = program_.sequence();
    set_former(flow, r, all, former);
  });
  counters_.path_streams[from.id]--;
  counters_.path_streams[to.id]++;
}

// The old entry stays what it is for workers that hold it: what it says of itself never changes but for its route.
Flow* StreamTable::decide_again(Flow* flow, uint64_t hash) {
  const uint32_t decided_by = shared_load(flow->decided_by);
  if (program_.behind(decided_by)) return flow;
  Tuple tuple = opening_tuple(*flow);
  const Classification decision = decide(tuple, false);
  const Path* path = decision.action == Action::chain ? program_->path(program_->chain(decision.chain)->path) : nullptr;
  const bool concerned = program_->moved_since(flow->policy, decided_by) || program_->moved_since(decision.policy, decided_by);

  std::lock_guard lock(table_.lock());
  if (flow->life != Flow::Life::live) {  // another worker was faster
    Flow* there = table_.find(flow->key, hash);
    return there ? there : flow;
  }
  const Path* from = program_->path(flow->path);
  const bool same = decision.policy == flow->policy && decision.action == flow->action && (!path || (from && from->chain == path->chain));
  if (!concerned || same) {
    table_.change_route(flow, [&](Route& r) { r.decided_by = program_.sequence(); });
    return flow;
  }
  const Route before = table_.route(flow);
  const uint32_t all = places(from, path);
  uint16_t chosen[kMaxHops];
  for (uint32_t i = 0; path && i < path->hops(); i++) {  // instances that it has or had stay
    const uint16_t known = path->has_members() ? kNoInstance : known_pin(flow, before, all, path->services[i]);
    chosen[i] = known != kNoInstance ? known : pick(flow, *path, i);
  }
  // Also where no service is left: packets of the stream are at instances still, and the next change may bring it back.
  const FormerPins former = pins_not_on(flow, before, all, path);
  Flow* next = enter(tuple, flow->key, hash, shared_load(flow->last_seen_ns), decision, path, chosen);
  if (!next) return flow;  // no entry to give: at its next packet, then
  table_.change_route(next, [&](Route& r) { set_former(next, r, all, former); });
  next->tcp = shared_load(flow->tcp);
  next->packets = shared_load(flow->packets);
  next->bytes = shared_load(flow->bytes);
  next->tags = shared_load(flow->tags);
  for (int side = 0; side < 2; side++)
    for (int i = 0; i < 3; i++) next->macs[side][i] = shared_load(flow->macs[side][i]);
  close(flow);
  table_.publish(next, hash);
  return next;
}

}  // namespace weir
