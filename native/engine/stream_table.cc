#include "engine/stream_table.h"

#include <algorithm>

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

uint16_t StreamTable::pick(const FlowKey& key, uint32_t code, uint16_t service) const {
  const Service& s = *program_->service(service);
  return choose_instance(*program_, s, service_code(*program_, s, key, code));
}

uint16_t StreamTable::pick(const Flow* flow, uint16_t service) const { return pick(flow->key, flow->code, service); }

void StreamTable::set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance) {
  const uint16_t before = position < route.hops ? position < Route::kInlinePins ? route.pin(position) : table_.pin(flow, position) : kNoInstance;
  if (before != kNoInstance) counters_.instances[before].streams--;
  if (instance != kNoInstance) counters_.instances[instance].streams++;
  table_.set_pin(flow, route, position, instance);
}

Flow* StreamTable::find(const FlowKey& key, uint64_t hash) {
  Flow* flow = table_.find(key, hash);
  if (flow && program_.behind(shared_load(flow->decided_by))) program_.refresh();
  return flow;
}

Flow* StreamTable::find_surely(const FlowKey& key, uint64_t hash) {
  if (Flow* flow = find(key, hash)) return flow;
  std::lock_guard lock(table_.lock());
  return find(key, hash);
}

bool StreamTable::over(const Flow* flow, const Packet& packet, uint64_t now_ns) const {
  if (packet.ip_protocol == kIpTcp && tcp_reopens(shared_load(flow->tcp), packet.tcp_flags)) return true;
  return idle_over(*flow, now_ns, program_->idle);
}

Flow* StreamTable::open(const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns, Flow* over) {
  const Classification decision = classify(*program_, tuple);
  const Path* path = decision.action == Action::chain ? program_->path(program_->chain(decision.chain)->path) : nullptr;
  uint16_t chosen[kMaxHops];
  for (uint32_t i = 0; path && i < path->hops(); i++) chosen[i] = pick(key, uint32_t(hash), path->services[i]);

  std::lock_guard lock(table_.lock());
  if (Flow* there = table_.find(key, hash)) {
    if (there != over) return there;
    if (idle_over(*there, now_ns, program_->idle)) counters_.streams_expired++;
    close(there);
  }
  if (table_.full()) {
    Flow* victim = table_.idlest();
    (idle_over(*victim, now_ns, program_->idle) ? counters_.streams_expired : counters_.streams_evicted)++;
    close(victim);
  }
  Flow* flow = table_.allocate(key, hash, now_ns);
  if (!flow) return nullptr;
  flow->action = decision.action;
  flow->policy = decision.policy;
  flow->opened = tuple.direction;
  flow->opener_is_a = !tuple.swapped();
  flow->capture = tuple.capture;
  Route route;
  route.decided_by = program_.sequence();
  if (path) {
    route.path = path->id;
    for (uint32_t i = 0; i < path->hops(); i++) set_pin(flow, route, i, chosen[i]);
    route.hops = uint8_t(path->hops());
    counters_.path_streams[path->id]++;
    counters_.chains[decision.chain].streams++;
  }
  table_.change_route(flow, [&](Route& r) { r = route; });
  counters_.streams_opened++;
  counters_.streams_active++;
  if (decision.policy != kNoPolicy) counters_.policies[decision.policy].streams++;
  table_.publish(flow, hash);
  return flow;
}

// Rewrites the route for the path that `from` has been moved to.
void StreamTable::follow(Flow* flow, const Path& from, const Path& to) {
  table_.change_route(flow, [&](Route& r) {
    uint16_t pins[kMaxHops];
    for (uint32_t i = 0; i < to.hops(); i++) {
      const int old = position_of(from, to.services[i]);
      const bool kept = old >= 0 && uint32_t(old) < r.hops;
      pins[i] = !kept ? pick(flow, to.services[i]) : uint32_t(old) < Route::kInlinePins ? r.pin(uint32_t(old)) : table_.pin(flow, uint32_t(old));
    }
    for (uint32_t i = 0; i < r.hops; i++) set_pin(flow, r, i, kNoInstance);
    for (uint32_t i = 0; i < to.hops(); i++) set_pin(flow, r, i, pins[i]);
    r.hops = uint8_t(to.hops());
    r.path = to.id;
    r.decided_by = program_.sequence();
  });
  counters_.path_streams[from.id]--;
  counters_.path_streams[to.id]++;
}

Route StreamTable::route(Flow* flow) {
  for (;;) {
    const Route route = table_.route(flow);
    if (program_.behind(route.decided_by)) program_.refresh();
    const Path* from = program_->path(route.path);
    if (!from || !from->moved_to) return route;
    const Path* to = from;
    for (uint32_t i = 0; to->moved_to && i < kMaxHops; i++) to = program_->path(to->moved_to);
    std::lock_guard lock(table_.lock());
    // Another worker may have moved it meanwhile, or closed it.
    if (flow->life != Flow::Life::live || flow->path != from->id) return table_.route(flow);
    follow(flow, *from, *to);
  }
}

void StreamTable::seen(Flow* flow, const Packet& packet, bool answer, uint64_t now_ns) {
  shared_add(flow->packets, uint64_t(1));
  shared_add(flow->bytes, uint64_t(packet.ip_length()));
  if (packet.ip_protocol == kIpTcp && flow->key.protocol() == kIpTcp && (!packet.fragment || packet.first_fragment)) {
    std::atomic_ref<TcpState> tcp(flow->tcp);
    TcpState state = tcp.load(std::memory_order_relaxed);
    for (;;) {
      const TcpState next = tcp_next(state, packet.tcp_flags, answer);
      if (next == state || tcp.compare_exchange_weak(state, next, std::memory_order_relaxed)) break;
    }
  }
  shared_store(flow->last_seen_ns, now_ns);
}

void StreamTable::close(Flow* flow) {
  table_.change_route(flow, [&](Route& r) {
    for (uint32_t i = 0; i < r.hops; i++) {
      const uint16_t instance = i < Route::kInlinePins ? r.pin(i) : table_.pin(flow, i);
      if (instance != kNoInstance) counters_.instances[instance].streams--;
    }
  });
  if (flow->action == Action::chain) counters_.path_streams[flow->path]--;
  counters_.streams_active--;
  table_.remove(flow);
}

bool StreamTable::expire(uint64_t now_ns) {
  constexpr uint64_t kPassNs = 1'000'000'000;
  constexpr uint32_t kLooks = 1024, kCloses = 32;  // together some 20 microseconds
  const uint32_t high = table_.high_water();
  if (high == 0 || now_ns <= scanned_ns_) return false;
  const uint64_t per_entry = std::max<uint64_t>(kPassNs / high, 1);
  // After a long time without a look one whole pass is enough.
  if (now_ns - scanned_ns_ > per_entry * high) scanned_ns_ = now_ns - per_entry * high;
  uint32_t looks = 0;
  for (uint32_t closed = 0; looks < kLooks && closed < kCloses && now_ns - scanned_ns_ >= per_entry; looks++) {
    scanned_ns_ += per_entry;
    scan_at_ = scan_at_ >= high ? 1 : scan_at_ + 1;
    Flow* flow = table_.at(scan_at_);
    if (!flow || !idle_over(*flow, now_ns, program_->idle)) continue;
    std::lock_guard lock(table_.lock());
    if (flow->life != Flow::Life::live || !idle_over(*flow, now_ns, program_->idle)) continue;
    close(flow);
    closed++;
    counters_.streams_expired++;
  }
  return now_ns - scanned_ns_ >= per_entry;
}

// The instance for a position whose pinned one can't be used: pinned anew, once for all workers.
uint16_t StreamTable::repin(Flow* flow, const Path& own, uint32_t position, uint16_t refused, uint16_t service) {
  const uint16_t chosen = pick(flow, service);
  if (chosen == kNoInstance) return chosen;
  std::lock_guard lock(table_.lock());
  if (flow->life != Flow::Life::live || flow->path != own.id || position >= flow->hops) return chosen;
  const uint16_t now = table_.pin(flow, position);
  if (now != refused) return now == kNoInstance ? chosen : now;
  table_.change_route(flow, [&](Route& r) {
    set_pin(flow, r, position, chosen);
    r.decided_by = program_.sequence();
  });
  return chosen;
}

StreamTable::Stop StreamTable::next_stop(Flow* flow, const Route& route, const Path& path, uint32_t step, bool answer) {
  const Path* own = route.path == path.id ? &path : program_->path(route.path);
  for (; step < path.hops(); step++) {
    const uint32_t here = path.position(step, answer);
    const uint16_t service_id = path.services[here];
    const Service& service = *program_->service(service_id);
    // A packet that began on an older path uses the instance that the stream has on its own path, where the service is on both.
    const int position = own == &path ? int(here) : own ? position_of(*own, service_id) : -1;
    const uint16_t pinned = position < 0 || position >= route.hops         ? kNoInstance
                            : uint32_t(position) < Route::kInlinePins ? route.pin(uint32_t(position))
                                                                      : table_.pin(flow, uint32_t(position));
    const Instance* instance = pinned == kNoInstance ? nullptr : program_->instance(pinned);
    if (instance && instance->usable_for_pinned()) return {Stop::Kind::instance, instance, step};
    if (instance && service.hold_on_failure) return {Stop::Kind::drop, nullptr, step, DropReason::held};
    const uint16_t chosen = position >= 0 ? repin(flow, *own, uint32_t(position), pinned, service_id) : pick(flow, service_id);
    if (const Instance* other = chosen == kNoInstance ? nullptr : program_->instance(chosen)) return {Stop::Kind::instance, other, step};
    if (!service.fail_open) return {Stop::Kind::drop, nullptr, step, DropReason::no_instance};
  }
  return {Stop::Kind::end};
}

FlowView StreamTable::view(const Flow& flow, uint64_t now_ns) const {
  const Route route = table_.route(&flow);
  FlowView v;
  v.key = flow.key;
  v.code = flow.code;
  v.action = flow.action;
  v.opened = flow.opened;
  v.opener_is_a = flow.opener_is_a;
  v.policy = flow.policy;
  v.capture = flow.capture;
  v.path = route.path;
  v.tcp = shared_load(flow.tcp);
  v.packets = shared_load(flow.packets);
  v.bytes = shared_load(flow.bytes);
  const uint64_t seen = shared_load(flow.last_seen_ns);
  v.idle_ms = (now_ns > seen ? now_ns - seen : 0) / 1'000'000;
  for (uint32_t i = 0; i < route.hops; i++) v.pins.push_back(i < Route::kInlinePins ? route.pin(i) : table_.pin(&flow, i));
  return v;
}

Decision StreamTable::describe(const Tuple& tuple, uint64_t now_ns) const {
  const Program& program = *program_;
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
  std::lock_guard lock(table_.lock());
  if (const Flow* flow = table_.find(key, hash)) d.live = view(*flow, now_ns);
  return d;
}

}  // namespace weir
