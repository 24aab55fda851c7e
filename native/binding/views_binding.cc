#include "binding/views_binding.h"

#include <algorithm>

#include "binding/convert.h"

namespace weir {
namespace {

Napi::Number number(Napi::Env env, uint64_t n) { return Napi::Number::New(env, double(n)); }

// Any one counter, summed over the workers. A gauge may be over zero with one and below with another: their sum is right.
class Sum {
 public:
  Sum(Napi::Env env, const std::vector<const Counters*>& workers) : env_(env), workers_(workers) {}
  template <typename Get>
  uint64_t of(Get&& get) const {
    uint64_t sum = 0;
    for (const Counters* c : workers_) sum += get(*c).get();
    return sum;
  }
  template <typename Get>
  Napi::Number operator()(Get&& get) const { return number(env_, of(get)); }
  template <typename Get>
  Napi::Object traffic(Get&& get) const {
    Napi::Object o = Napi::Object::New(env_);
    o["packets"] = (*this)([&](const Counters& c) -> const Counter& { return get(c).packets; });
    o["bytes"] = (*this)([&](const Counters& c) -> const Counter& { return get(c).bytes; });
    return o;
  }

 private:
  Napi::Env env_;
  const std::vector<const Counters*>& workers_;
};

const char* action_name(Action a) { return a == Action::pass ? "pass" : a == Action::drop ? "drop" : "chain"; }

const char* tcp_name(TcpState s) {
  switch (s) {
    case TcpState::none: return "none";
    case TcpState::opening:
    case TcpState::half_open: return "opening";
    case TcpState::half_seen:
    case TcpState::midstream:
    case TcpState::established: return "established";
    case TcpState::reset_by_opener:
    case TcpState::reset_by_answerer:
    case TcpState::closed: return "closed";
    default: return "closing";
  }
}

Napi::Number id_or_minus_one(Napi::Env env, uint32_t id, uint32_t none) { return Napi::Number::New(env, id == none ? -1.0 : double(id)); }

template <typename Ids>
Napi::Array ids_to_js(Napi::Env env, const Ids& ids) {
  Napi::Array a = Napi::Array::New(env, ids.size());
  for (uint32_t i = 0; i < ids.size(); i++) a[i] = id_or_minus_one(env, ids[i], kNoInstance);
  return a;
}

Napi::Object flow_to_js(Napi::Env env, const FlowView& f) {
  const bool a_first = f.opener_is_a;
  Napi::Object o = Napi::Object::New(env);
  o["capture"] = number(env, f.capture);
  Napi::Array vlan = Napi::Array::New(env, 2);
  vlan[0u] = number(env, f.key.vlans >> 12);
  vlan[1u] = number(env, f.key.vlans & 0xfff);
  o["vlan"] = vlan;
  o["protocol"] = number(env, f.key.protocol());
  o["source"] = Napi::String::New(env, format_address(a_first ? f.key.a : f.key.b));
  o["sourcePort"] = number(env, a_first ? f.key.port_a : f.key.port_b);
  o["destination"] = Napi::String::New(env, format_address(a_first ? f.key.b : f.key.a));
  o["destinationPort"] = number(env, a_first ? f.key.port_b : f.key.port_a);
  o["opened"] = Napi::String::New(env, f.opened == Direction::out ? "out" : "in");
  o["code"] = number(env, f.code);
  o["action"] = Napi::String::New(env, action_name(f.action));
  o["policy"] = id_or_minus_one(env, f.policy, kNoPolicy);
  o["path"] = number(env, f.path);
  o["pins"] = ids_to_js(env, f.pins);
  o["tcp"] = Napi::String::New(env, tcp_name(f.tcp));
  o["packets"] = number(env, f.packets);
  o["bytes"] = number(env, f.bytes);
  o["idleMs"] = number(env, f.idle_ms);
  return o;
}

// One past the highest id: rows of ids that the program no longer names keep their counts and are listed too.
template <typename Rows>
uint32_t highest(const Rows& rows) {
  uint32_t n = 0;
  for (const auto& row : rows) n = std::max<uint32_t>(n, row.id + 1);
  return n;
}

template <typename Table>
Napi::Array stream_rows(Napi::Env env, const Sum& sum, Table&& table, uint32_t ids) {
  Napi::Array rows = Napi::Array::New(env);
  uint32_t n = 0;
  for (uint32_t id = 0; id < ids; id++) {
    const uint64_t packets = sum.of([&](const Counters& c) -> const Counter& { return table(c)[id].packets; });
    const uint64_t streams = sum.of([&](const Counters& c) -> const Counter& { return table(c)[id].streams; });
    if (!packets && !streams) continue;
    Napi::Object o = Napi::Object::New(env);
    o["id"] = number(env, id);
    o["packets"] = number(env, packets);
    o["bytes"] = sum([&](const Counters& c) -> const Counter& { return table(c)[id].bytes; });
    o["streams"] = number(env, streams);
    rows[n++] = o;
  }
  return rows;
}

}  // namespace

Napi::Object traffic_to_js(Napi::Env env, const Traffic& traffic) {
  Napi::Object o = Napi::Object::New(env);
  o["packets"] = number(env, traffic.packets.get());
  o["bytes"] = number(env, traffic.bytes.get());
  return o;
}

Napi::Object port_to_js(Napi::Env env, const PortView& p) {
  Napi::Object o = Napi::Object::New(env);
  o["port"] = number(env, p.port);
  o["interface"] = Napi::String::New(env, p.interface);
  o["rxFrames"] = number(env, p.counters.rx_frames);
  o["rxBytes"] = number(env, p.counters.rx_bytes);
  o["rxDropped"] = number(env, p.counters.rx_dropped);
  o["txFrames"] = number(env, p.counters.tx_frames);
  o["txBytes"] = number(env, p.counters.tx_bytes);
  o["txErrors"] = number(env, p.counters.tx_errors);
  o["cuts"] = Napi::Boolean::New(env, p.counters.cuts);
  o["open"] = Napi::Boolean::New(env, p.counters.open);
  return o;
}

Napi::Object latency_to_js(Napi::Env env, const Latency& latency) {
  Napi::Object o = Napi::Object::New(env);
  Napi::Array counts = Napi::Array::New(env, Latency::kBuckets);
  for (uint32_t i = 0; i < Latency::kBuckets; i++) counts[i] = number(env, latency.count(i));
  o["counts"] = counts;
  o["sumNs"] = number(env, latency.sum_ns());
  return o;
}

Napi::Object worker_to_js(Napi::Env env, const WorkerView& w) {
  const Counters& c = *w.counters;
  auto sum = [&](auto&& get, std::initializer_list<const Traffic*> all) {
    uint64_t n = 0;
    for (const Traffic* t : all) n += get(*t);
    return number(env, n);
  };
  auto both = [&](std::initializer_list<const Traffic*> all) {
    Napi::Object o = Napi::Object::New(env);
    o["packets"] = sum([](const Traffic& t) { return t.packets.get(); }, all);
    o["bytes"] = sum([](const Traffic& t) { return t.bytes.get(); }, all);
    return o;
  };
  uint64_t dropped = 0;
  for (const Counter& reason : c.dropped) dropped += reason.get();
  Napi::Object o = Napi::Object::New(env);
  o["received"] = both({&c.captured, &c.returned});
  o["sent"] = both({&c.stamped, &c.proxied, &c.delivered, &c.crossed});
  o["dropped"] = number(env, dropped);
  o["ringDropped"] = number(env, w.ports.rx_dropped);
  o["turns"] = number(env, w.turns);
  o["cpuNs"] = number(env, w.cpu_ns);
  o["group"] = latency_to_js(env, *w.group);
  o["transit"] = latency_to_js(env, *w.transit);
  return o;
}

Napi::Object counters_to_js(Napi::Env env, const std::vector<const Counters*>& workers, const TableView& tables, const Program& program,
                            const std::vector<PortView>& ports, const std::vector<WorkerView>& threads) {
  using C = const Counters&;
  const Sum sum(env, workers);
  Napi::Object o = Napi::Object::New(env);
  o["captured"] = sum.traffic([](C c) -> const Traffic& { return c.captured; });
  o["returned"] = sum.traffic([](C c) -> const Traffic& { return c.returned; });
  o["stamped"] = sum.traffic([](C c) -> const Traffic& { return c.stamped; });
  o["proxied"] = sum.traffic([](C c) -> const Traffic& { return c.proxied; });
  o["delivered"] = sum.traffic([](C c) -> const Traffic& { return c.delivered; });
  o["crossed"] = sum.traffic([](C c) -> const Traffic& { return c.crossed; });
  o["deliveredToInstances"] = sum.traffic([](C c) -> const Traffic& { return c.handed_over; });
  o["neighbourAnswers"] = sum([](C c) -> const Counter& { return c.neighbour_answers; });
  o["cut"] = sum([](C c) -> const Counter& { return c.cut; });
  o["probesAnswered"] = sum([](C c) -> const Counter& { return c.probes_answered; });
  o["held"] = number(env, tables.held);
  o["ignored"] = sum([](C c) -> const Counter& { return c.ignored; });
  Napi::Object fragments = Napi::Object::New(env);
  fragments["datagramsSent"] = sum([](C c) -> const Counter& { return c.fragmented; });
  fragments["sent"] = sum([](C c) -> const Counter& { return c.fragments_sent; });
  fragments["received"] = sum([](C c) -> const Counter& { return c.fragments_received; });
  fragments["datagramsReceived"] = sum([](C c) -> const Counter& { return c.reassembled; });
  o["fragments"] = fragments;
  Napi::Object crossed = Napi::Object::New(env), dropped = Napi::Object::New(env);
  for (size_t i = 0; i < kCrossReasonNames.size(); i++)
    crossed[kCrossReasonNames[i].data()] = sum([i](C c) -> const Counter& { return c.crossed_by[i]; });
  for (size_t i = 0; i < kDropReasonNames.size(); i++)
    dropped[kDropReasonNames[i].data()] = sum([i](C c) -> const Counter& { return c.dropped[i]; });
  o["crossedBy"] = crossed;
  o["dropped"] = dropped;
  Napi::Object streams = Napi::Object::New(env);
  streams["active"] = sum([](C c) -> const Counter& { return c.streams_active; });
  streams["opened"] = sum([](C c) -> const Counter& { return c.streams_opened; });
  streams["expired"] = sum([](C c) -> const Counter& { return c.streams_expired; });
  streams["evicted"] = sum([](C c) -> const Counter& { return c.streams_evicted; });
  streams["capacity"] = number(env, tables.capacity);
  o["streams"] = streams;

  uint32_t policies = 0;
  for (const Rule& r : program.all_rules()) policies = std::max(policies, r.policy + 1);
  o["policies"] = stream_rows(env, sum, [](C c) -> const auto& { return c.policies; }, policies);
  Napi::Array chains = stream_rows(env, sum, [](C c) -> const auto& { return c.chains; }, highest(program.chains));
  for (uint32_t i = 0; i < chains.Length(); i++) {
    Napi::Object row = chains.Get(i).As<Napi::Object>();
    const uint32_t id = row.Get("id").As<Napi::Number>().Uint32Value();
    row["delivered"] = sum.traffic([id](C c) -> const Traffic& { return c.chains_delivered[id]; });
  }
  o["chains"] = chains;
  Napi::Array hops = Napi::Array::New(env);
  uint32_t n = 0;
  std::vector<uint32_t> positions(highest(program.chains));  // of each chain's longest path
  for (const Path& p : program.paths)
    if (p.chain < positions.size()) positions[p.chain] = std::max(positions[p.chain], p.hops());
  for (uint32_t chain = 0; chain < positions.size(); chain++) {
    for (uint32_t i = 0; i < positions[chain]; i++) {
      Napi::Object row = Napi::Object::New(env);
      row["chain"] = number(env, chain);
      row["position"] = number(env, i);
      const uint32_t at = hop_row(chain, i);
      row["packets"] = sum([&](C c) -> const Counter& { return c.hops[at].packets; });
      row["bytes"] = sum([&](C c) -> const Counter& { return c.hops[at].bytes; });
      hops[n++] = row;
    }
  }
  o["hops"] = hops;
  Napi::Array paths = Napi::Array::New(env);
  n = 0;
  for (const Path& p : program.paths) {
    Napi::Object row = Napi::Object::New(env);
    row["id"] = number(env, p.id);
    row["streams"] = sum([&](C c) -> const Counter& { return c.path_streams[p.id]; });
    paths[n++] = row;
  }
  o["paths"] = paths;
  Napi::Array instances = Napi::Array::New(env);
  n = 0;
  for (const Instance& i : program.instances) {
    Napi::Object row = Napi::Object::New(env);
    row["id"] = number(env, i.id);
    row["streams"] = sum([&](C c) -> const Counter& { return c.instances[i.id].streams; });
    row["sent"] = sum.traffic([&](C c) -> const Traffic& { return c.instances[i.id].sent; });
    row["received"] = sum.traffic([&](C c) -> const Traffic& { return c.instances[i.id].received; });
    row["delivered"] = sum.traffic([&](C c) -> const Traffic& { return c.instances[i.id].delivered; });
    instances[n++] = row;
  }
  o["instances"] = instances;
  Napi::Array port_rows = Napi::Array::New(env, ports.size());
  for (uint32_t i = 0; i < ports.size(); i++) port_rows[i] = port_to_js(env, ports[i]);
  o["ports"] = port_rows;
  Napi::Array workers_rows = Napi::Array::New(env, threads.size());
  for (uint32_t i = 0; i < threads.size(); i++) workers_rows[i] = worker_to_js(env, threads[i]);
  o["workers"] = workers_rows;
  return o;
}

FlowPage list_flows(const Engine& engine, uint32_t cursor, uint32_t max) {
  FlowPage page;
  const FlowTable& table = engine.flows();
  std::lock_guard lock(table.lock());  // no entry is used again meanwhile
  uint32_t number = std::max<uint32_t>(cursor, 1), looked = 0;
  for (; number <= table.high_water() && page.flows.size() < max && looked < 16 * max; number++, looked++)
    if (const Flow* flow = table.at(number)) page.flows.push_back(engine.view(*flow));
  page.next = number <= table.high_water() ? int64_t(number) : -1;
  return page;
}

Napi::Object flows_to_js(Napi::Env env, const FlowPage& page) {
  Napi::Object o = Napi::Object::New(env);
  Napi::Array flows = Napi::Array::New(env, page.flows.size());
  for (uint32_t i = 0; i < page.flows.size(); i++) flows[i] = flow_to_js(env, page.flows[i]);
  o["flows"] = flows;
  o["next"] = Napi::Number::New(env, double(page.next));
  return o;
}

Napi::Object decision_to_js(Napi::Env env, const Decision& d) {
  Napi::Object o = Napi::Object::New(env);
  o["code"] = number(env, d.code);
  o["action"] = Napi::String::New(env, action_name(d.action));
  o["policy"] = id_or_minus_one(env, d.policy, kNoPolicy);
  o["chain"] = number(env, d.chain);
  o["path"] = number(env, d.path);
  Napi::Array hops = Napi::Array::New(env, d.hops.size());
  for (uint32_t i = 0; i < d.hops.size(); i++) {
    const Decision::Hop& hop = d.hops[i];
    Napi::Object h = Napi::Object::New(env);
    h["service"] = number(env, hop.service);
    h["code"] = number(env, hop.code);
    h["ranked"] = ids_to_js(env, hop.ranked);
    h["chosen"] = id_or_minus_one(env, hop.chosen, kNoInstance);
    hops[i] = h;
  }
  o["hops"] = hops;
  o["live"] = d.live ? Napi::Value(flow_to_js(env, *d.live)) : Napi::Value(env.Null());
  return o;
}

Tuple read_tuple(Napi::Object object, const Program& program, std::string& error) {
  Tuple t;
  Reader r(object, "tuple", error);
  t.capture = uint16_t(r.u32("capture", 65534));
  const Napi::Array vlan = r.array("vlan");
  uint16_t* ids[2] = {&t.vlan_outer, &t.vlan_inner};
  for (uint32_t i = 0; i < 2; i++) {
    const Napi::Value v = vlan.Get(i);
    if (v.IsNumber() && v.As<Napi::Number>().Uint32Value() < 4096) {
      *ids[i] = uint16_t(v.As<Napi::Number>().Uint32Value());
    } else {
      r.fail("vlan", "two numbers below 4096");
    }
  }
  t.protocol = uint8_t(r.u32("protocol", 255));
  t.source = r.address("source");
  t.destination = r.address("destination");
  t.source_port = uint16_t(r.u32("sourcePort", 65535));
  t.destination_port = uint16_t(r.u32("destinationPort", 65535));
  t.direction = r.choice("direction", {"out", "in"}) == 0 ? Direction::out : Direction::in;
  if (t.capture >= program.captures.size()) {
    r.fail("capture", "the number of a capture");
  } else {
    t.tenant = program.captures[t.capture].tenant;
  }
  return t;
}

EngineLimits read_limits(Napi::Object options, std::string& error) {
  Reader r(options, "options", error);
  EngineLimits limits;
  limits.flows = uint32_t(r.number("flowsMax", 1, 16'777'216));
  return limits;
}

}  // namespace weir
