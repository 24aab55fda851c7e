#include "engine/stream_table.h"

#include "engine/classifier.h"
#include "engine/service_map.h"

namespace weir {
namespace {

// Position of a service on a path, or -1.
int position_of(const Path& path, uint16_t service) {
  for (uint32_t i = 0; i < path.hops(); i++)
    if (path.services[i] == service) return int(i);
  return -1;
}

uint32_t service_code(const Program& program, const Service& service, const FlowKey& key, uint32_t code) {
  return service.affinity == Affinity::five_tuple ? code : affinity_code(program.affinity_key, key, service.affinity);
}

}  // namespace

uint16_t StreamTable::pick(const Program& program, const Flow* flow, uint16_t service) const {
  const Service& s = *program.service(service);
  return choose_instance(program, s, service_code(program, s, flow->key, flow->code));
}

void StreamTable::pin(Flow* flow, uint32_t position, uint16_t instance) {
  const uint16_t before = table_.pin(flow, position);
  if (before == instance) return;
  if (before != kNoInstance) counters_.instances[before].streams--;
  if (instance != kNoInstance) counters_.instances[instance].streams++;
  table_.set_pin(flow, position, instance);
}

void StreamTable::unpin_all(Flow* flow) {
  for (uint32_t i = 0; i < flow->hops; i++) pin(flow, i, kNoInstance);
  flow->hops = 0;
}

Flow* StreamTable::open(const Program& program, const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns) {
  if (table_.full()) {
    close(table_.idlest());
    counters_.streams_evicted++;
  }
  const Classification decision = classify(program, tuple);
  Flow* flow = table_.insert(key, hash, now_ns);
  flow->action = decision.action;
  flow->policy = decision.policy;
  flow->opened = tuple.direction;
  flow->opener_is_a = !tuple.swapped();
  flow->capture = tuple.capture;
  flow->tcp = TcpState::none;
  if (decision.action == Action::chain) {
    const Path& path = *program.path(program.chain(decision.chain)->path);
    flow->path = path.id;
    counters_.path_streams[path.id]++;
    counters_.chains[decision.chain].streams++;
    flow->hops = path.hops() & 63;
    for (uint32_t i = 0; i < path.hops(); i++) {
      table_.set_pin(flow, i, kNoInstance);  // what an earlier stream left in the far pins
      pin(flow, i, pick(program, flow, path.services[i]));
    }
  }
  counters_.streams_opened++;
  counters_.streams_active++;
  if (decision.policy != kNoPolicy) counters_.policies[decision.policy].streams++;
  return flow;
}

void StreamTable::follow_move(const Program& program, Flow* flow) {
  const Path* from = program.path(flow->path);
  if (!from) return;  // the control side frees no path that has streams, so this can't last
  const Path* to = from;
  for (uint32_t i = 0; to->moved_to && i < kMaxHops; i++) to = program.path(to->moved_to);
  if (to == from) return;
  uint16_t pins[kMaxHops];
  for (uint32_t i = 0; i < to->hops(); i++) {
    const int old = position_of(*from, to->services[i]);
    pins[i] = old >= 0 && uint32_t(old) < flow->hops ? table_.pin(flow, uint32_t(old)) : pick(program, flow, to->services[i]);
  }
  unpin_all(flow);
  flow->hops = to->hops() & 63;
  for (uint32_t i = 0; i < to->hops(); i++) {
    table_.set_pin(flow, i, kNoInstance);
    pin(flow, i, pins[i]);
  }
  counters_.path_streams[flow->path]--;
  flow->path = to->id & 0xfffff;
  counters_.path_streams[flow->path]++;
}

void StreamTable::seen(Flow* flow, const Packet& packet, bool answer, uint64_t now_ns) {
  flow->packets++;
  flow->bytes += packet.ip_length();
  IdleClass idle = IdleClass::other;
  if (flow->key.protocol() == kIpTcp) {
    if (packet.ip_protocol == kIpTcp && (!packet.fragment || packet.first_fragment)) flow->tcp = tcp_next(flow->tcp, packet.tcp_flags, answer);
    idle = flow->tcp == TcpState::closed ? IdleClass::closed : IdleClass::tcp;
  }
  table_.touch(flow, idle, now_ns);
}

void StreamTable::close(Flow* flow) {
  unpin_all(flow);
  if (flow->action == Action::chain) counters_.path_streams[flow->path]--;
  counters_.streams_active--;
  table_.erase(flow);
}

void StreamTable::expire(uint64_t now_ns, const IdleTimeouts& idle, uint32_t budget) {
  for (; budget; budget--) {
    Flow* flow = table_.expired(now_ns, idle);
    if (!flow) return;
    close(flow);
    counters_.streams_expired++;
  }
}

StreamTable::Stop StreamTable::next_stop(const Program& program, Flow* flow, const Path& path, uint32_t step, bool answer) {
  const Path* own = flow->path == path.id ? &path : program.path(flow->path);
  for (; step < path.hops(); step++) {
    const uint16_t service_id = path.services[path.position(step, answer)];
    const Service& service = *program.service(service_id);
    // A packet that began on an older path uses the instance that the stream has on its own path, where the service is on both.
    const int position = own ? position_of(*own, service_id) : -1;
    const uint16_t pinned = position >= 0 ? table_.pin(flow, uint32_t(position)) : kNoInstance;
    const Instance* instance = pinned == kNoInstance ? nullptr : program.instance(pinned);
    if (instance && instance->usable_for_pinned()) return {Stop::Kind::instance, instance, step};
    if (instance && service.hold_on_failure) return {Stop::Kind::drop, nullptr, step, DropReason::held};
    const uint16_t chosen = pick(program, flow, service_id);
    if (chosen != kNoInstance) {
      if (position >= 0) pin(flow, uint32_t(position), chosen);
      return {Stop::Kind::instance, program.instance(chosen), step};
    }
    if (!service.fail_open) return {Stop::Kind::drop, nullptr, step, DropReason::no_instance};
  }
  return {Stop::Kind::end};
}

FlowView StreamTable::view(const Program& program, const Flow& flow, uint64_t now_ns) const {
  FlowView v{flow, {}, (now_ns > flow.last_seen_ns ? now_ns - flow.last_seen_ns : 0) / 1'000'000};
  if (const Path* path = flow.action == Action::chain ? program.path(flow.path) : nullptr)
    for (uint32_t i = 0; i < path->hops(); i++) v.pins.push_back(table_.pin(&flow, i));
  return v;
}

Decision StreamTable::describe(const Program& program, const Tuple& tuple, uint64_t now_ns) const {
  Decision d;
  const FlowKey key = flow_key(tuple);
  const uint64_t hash = affinity_hash(program.affinity_key, key, Affinity::five_tuple);
  d.code = uint32_t(hash);
  const Classification c = classify(program, tuple);
  d.action = c.action;
  d.policy = c.policy;
  if (c.action == Action::chain) {
    d.chain = c.chain;
    const Path& path = *program.path(program.chain(c.chain)->path);
    d.path = path.id;
    for (const uint16_t id : path.services) {
      const Service& service = *program.service(id);
      Decision::Hop hop;
      hop.service = id;
      hop.code = service_code(program, service, key, d.code);
      uint16_t ranked[4];
      const uint32_t n = rank_instances(program, service, hop.code, [](const Instance&) { return true; }, ranked);
      hop.ranked.assign(ranked, ranked + n);
      hop.chosen = choose_instance(program, service, hop.code);
      d.hops.push_back(std::move(hop));
    }
  }
  if (const Flow* flow = table_.find(key, hash)) d.live = view(program, *flow, now_ns);
  return d;
}

}  // namespace weir
