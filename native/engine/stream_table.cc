#include "engine/stream_table.h"

#include <algorithm>

#include "engine/classifier.h"
#include "engine/service_map.h"

namespace weir {
namespace {

uint32_t service_code(const Program& program, const Service& service, const FlowKey& key, uint32_t code) {
  return service.affinity == Affinity::five_tuple ? code : affinity_code(program.affinity_key, key, service.affinity);
}

}  // namespace

Classification StreamTable::decide(Tuple& tuple, bool midstream) const {
  const Program& program = *program_;
  const Classification decision = classify(program, tuple);
  const bool either = midstream && decision.policy == kNoPolicy;
  if (!program.delivers && !either) return decision;
  const auto delivers = [&](const Classification& c) { return c.action == Action::chain && program.path(program.chain(c.chain)->path)->deliver; };
  if (delivers(decision)) return decision;
  Tuple turned = tuple;
  std::swap(turned.source, turned.destination);
  std::swap(turned.source_port, turned.destination_port);
  turned.direction = tuple.direction == Direction::out ? Direction::in : Direction::out;
  const Classification other = classify(program, turned);
  if (!delivers(other) && !(either && other.action == Action::chain)) return decision;
  tuple = turned;
  return other;
}

uint16_t StreamTable::pick(const FlowKey& key, uint32_t code, const Path& path, uint32_t position) const {
  const Service& s = *program_->service(path.services[position]);
  const uint32_t own = service_code(*program_, s, key, code);
  return path.has_members() ? choose_member(*program_, path, position, own) : choose_instance(*program_, s, own);
}

bool StreamTable::serves(const Flow* flow, const Instance& instance, const Path& path, uint32_t position) const {
  if (!path.has_members()) return instance.usable_for_pinned();
  // An instance that has come back has another state than the one that was pinned.
  if (path.has_late_member(position)) return pick(flow, path, position) == instance.id;
  return path.has_member(position, uint16_t(&instance - program_->instances.data()));
}

void StreamTable::set_pin(Flow* flow, Route& route, uint32_t position, uint16_t instance) {
  const uint16_t before = position < route.hops ? table_.pin(flow, route, position) : kNoInstance;
  if (before != kNoInstance) counters_.instances[before].streams--;
  if (instance != kNoInstance) {
    counters_.instances[instance].streams++;
    counters_.instances[instance].placed++;
  }
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
  if (packet.ip_protocol == kIpTcp && is_bare_syn(packet.tcp_flags)) {
    const TcpState state = shared_load(flow->tcp);
    if (tcp_reopens(state, packet.tcp_flags)) return true;
    // Both ends seem to open it at once (RFC 9293 section 3.5), or somebody makes believe so: it may come onto a chain by that, never
    // off one.
    if (tcp_unanswered(state) && packet.tuple.direction != flow->opened && flow->action != Action::chain) return true;
  }
  return idle_over(*flow, now_ns, program_->idle);
}

Flow* StreamTable::open(const Packet& packet, const FlowKey& key, uint64_t hash, uint64_t now_ns, Flow* over) {
  Tuple tuple = packet.tuple;
  const Classification decision = decide(tuple, packet.ip_protocol == kIpTcp && !is_bare_syn(packet.tcp_flags));
  const Path* path = decision.action == Action::chain ? program_->path(program_->chain(decision.chain)->path) : nullptr;
  uint16_t chosen[kMaxHops];
  for (uint32_t i = 0; path && i < path->hops(); i++) chosen[i] = pick(key, uint32_t(hash), *path, i);

  std::lock_guard lock(table_.lock());
  if (Flow* there = table_.find(key, hash)) {
    if (there != over) return there;
    if (idle_over(*there, now_ns, program_->idle)) counters_.streams_expired++;
    close(there);
  }
  if (table_.full()) {
    Flow* victim = table_.victim();
    (idle_over(*victim, now_ns, program_->idle) ? counters_.streams_expired : counters_.streams_evicted)++;
    close(victim);
  }
  Flow* flow = enter(tuple, key, hash, now_ns, decision, path, chosen);
  if (!flow) return nullptr;
  counters_.streams_opened++;
  table_.publish(flow, hash);
  return flow;
}

// A new entry, filled in and counted; publish() makes it found.
Flow* StreamTable::enter(const Tuple& tuple, const FlowKey& key, uint64_t hash, uint64_t now_ns, const Classification& decision, const Path* path,
                         const uint16_t* chosen) {
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
  counters_.streams_active++;
  if (decision.policy != kNoPolicy) counters_.policies[decision.policy].streams++;
  return flow;
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
  if (alone_) {  // a locked addition would wait for all that was written before it
    shared_store(flow->packets, shared_load(flow->packets) + 1);
    shared_store(flow->bytes, shared_load(flow->bytes) + packet.ip_length());
  } else {
    shared_add(flow->packets, uint64_t(1));
    shared_add(flow->bytes, uint64_t(packet.ip_length()));
  }
  if (packet.ip_protocol != flow->key.protocol()) {
    // An ICMP error about it: says nothing of whether its ends talk to each other.
  } else if (packet.ip_protocol != kIpTcp) {
    if (answer && shared_load(flow->tcp) == TcpState::none) shared_store(flow->tcp, TcpState::established);
  } else if (!packet.fragment || packet.first_fragment) {
    note_tcp(flow, packet.tcp_flags, answer, packet.payload < packet.end);
  }
  shared_store(flow->last_seen_ns, now_ns);
}

void StreamTable::note_tcp(Flow* flow, uint8_t flags, bool answer, bool data) {
  std::atomic_ref<TcpState> tcp(flow->tcp);
  TcpState state = tcp.load(std::memory_order_relaxed);
  for (;;) {
    const TcpState next = tcp_next(state, flags, answer, data);
    if (next == state || tcp.compare_exchange_weak(state, next, std::memory_order_relaxed)) break;
  }
}

void StreamTable::close(Flow* flow) {
  table_.change_route(flow, [&](Route& r) {
    for (uint32_t i = 0; i < r.hops; i++) {
      const uint16_t instance = table_.pin(flow, r, i);
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
  uint32_t looks = 0, closed = 0;
  for (; looks < kLooks && closed < kCloses && now_ns - scanned_ns_ >= per_entry; looks++) {
    scanned_ns_ += per_entry;
    scan_at_ = scan_at_ >= high ? 1 : scan_at_ + 1;
    Flow* flow = table_.at(scan_at_);
    if (!flow) continue;
    if (!idle_over(*flow, now_ns, program_->idle)) {
      if (program_->moves.empty() || shared_load(flow->decided_by) == program_.sequence()) continue;
      // Streams that are silent move, too.
      decide_again(flow, affinity_hash(program_->affinity_key, flow->key, Affinity::five_tuple));
      closed++;
      continue;
    }
    std::lock_guard lock(table_.lock());
    if (flow->life != Flow::Life::live || !idle_over(*flow, now_ns, program_->idle)) continue;
    close(flow);
    closed++;
    counters_.streams_expired++;
  }
  if (closed) {
    std::lock_guard lock(table_.lock());
    table_.reclaim();
  }
  return now_ns - scanned_ns_ >= per_entry;
}

// The instance for a position whose pinned one can't be used: pinned anew, once for all workers.
uint16_t StreamTable::repin(Flow* flow, const Path& own, uint32_t position, uint16_t refused) {
  const uint16_t chosen = pick(flow, own, position);
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

void StreamTable::learn(Flow* flow, const Path& path, uint32_t position, const Instance& from) {
  if (!from.usable_for_pinned()) return;
  const Route route = table_.route(flow);
  if (route.path != path.id || position >= route.hops) return;
  if (table_.pin(flow, route, position) == from.id) return;
  std::lock_guard lock(table_.lock());
  if (flow->life != Flow::Life::live || flow->path != path.id || position >= flow->hops) return;
  table_.change_route(flow, [&](Route& r) {
    set_pin(flow, r, position, from.id);
    r.decided_by = program_.sequence();
  });
}

StreamTable::Stop StreamTable::next_stop(Flow* flow, const Route& route, const Path& path, uint32_t step, bool answer) {
  const Path* own = route.path == path.id ? &path : program_->path(route.path);
  for (; step < path.hops(); step++) {
    const uint32_t here = path.position(step, answer);
    const uint16_t service_id = path.services[here];
    const Service& service = *program_->service(service_id);
    // A packet that began on an older path uses the instance that the stream has on its own path, where the service is on both;
    // otherwise the one that it had there before it moved.
    const int position = own == &path ? int(here) : own ? own->position_of(service_id) : -1;
    const uint16_t pinned = position >= 0 ? position < route.hops ? table_.pin(flow, route, uint32_t(position)) : kNoInstance
                                          : known_pin(flow, route, places(&path, own), service_id);
    const Instance* instance = pinned == kNoInstance ? nullptr : program_->instance(pinned);
    const bool final = !answer && path.ends_at(step);
    const Path& by = position >= 0 ? *own : path;
    const uint32_t at = position >= 0 ? uint32_t(position) : here;
    if (instance && serves(flow, *instance, by, at)) {
      // Among a path's members nobody takes another one's place while its neighbour is looked for: its state is there.
      if (!instance->usable_for_pinned()) return {Stop::Kind::drop, nullptr, step, DropReason::held};
      return {Stop::Kind::instance, instance, step, {}, final, hop_row(path.chain, here)};
    }
    if (instance && service.hold_on_failure) return {Stop::Kind::drop, nullptr, step, DropReason::held};
    const uint16_t chosen = position >= 0 ? repin(flow, by, at, pinned) : pick(flow, by, at);
    const Instance* other = chosen == kNoInstance ? nullptr : program_->instance(chosen);
    if (other && by.has_members() && !other->usable_for_pinned()) return {Stop::Kind::drop, nullptr, step, DropReason::held};
    if (other) return {Stop::Kind::instance, other, step, {}, final, hop_row(path.chain, here)};
    if (!service.fail_open || final) return {Stop::Kind::drop, nullptr, step, DropReason::no_instance};
  }
  return {Stop::Kind::end};
}

StreamTable::Visit StreamTable::visit(const Flow* flow, const Instance& instance) const {
  const Route route = table_.route(flow);
  const Path* own = program_->path(route.path);
  if (!own) return {};
  if (const int at = own->position_of(instance.service); at >= 0) {
    const uint16_t pinned = uint32_t(at) >= route.hops ? kNoInstance : table_.pin(flow, route, uint32_t(at));
    // What an instance still held when its streams went to another is let through.
    const bool with_it = pinned == instance.id || !instance.usable_for_pinned() || program_->service(instance.service)->primary;
    return with_it ? Visit{own, uint32_t(at)} : Visit{};
  }
  for (const Path& former : program_->paths) {
    const Path* to = &former;
    for (uint32_t i = 0; to && to->moved_to && to != own && i < kMaxHops; i++) to = program_->path(to->moved_to);
    if (to != own || &former == own) continue;
    if (const int at = former.position_of(instance.service); at >= 0) return {&former, uint32_t(at)};
  }
  return {};
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
  v.tcp = flow.key.protocol() == kIpTcp ? shared_load(flow.tcp) : TcpState::none;
  v.packets = shared_load(flow.packets);
  v.bytes = shared_load(flow.bytes);
  const uint64_t seen = shared_load(flow.last_seen_ns);
  v.idle_ms = (now_ns > seen ? now_ns - seen : 0) / 1'000'000;
  // Members are found anew by whoever sends a packet on, and on a mesh chain that is not this pipeline: what is pinned may be of old.
  const Path* own = program_->path(route.path);
  const bool members = own && own->has_members();
  for (uint32_t i = 0; i < route.hops; i++) v.pins.push_back(members && i < own->hops() ? pick(&flow, *own, i) : table_.pin(&flow, route, i));
  return v;
}

Decision StreamTable::describe(const Tuple& tuple, uint64_t now_ns) const {
  const Program& program = *program_;
  Decision d;
  const FlowKey key = flow_key(tuple);
  const uint64_t hash = affinity_hash(program.affinity_key, key, Affinity::five_tuple);
  d.code = uint32_t(hash);
  Tuple opening = tuple;
  const Classification c = decide(opening, false);
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
      hop.chosen = path.has_members() ? choose_member(program, path, uint32_t(d.hops.size()), hop.code) : choose_instance(program, service, hop.code);
      d.hops.push_back(std::move(hop));
    }
  }
  std::lock_guard lock(table_.lock());
  if (const Flow* flow = table_.find(key, hash)) d.live = view(*flow, now_ns);
  return d;
}

}  // namespace weir
