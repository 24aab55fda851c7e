#include "binding/program_binding.h"

#include <algorithm>
#include <cstring>

#include "binding/convert.h"
#include "engine/rule_row.h"

namespace weir {
namespace {

std::optional<Address> read_optional_address(Reader& r, const char* key) {
  if (r.null(key)) return std::nullopt;
  return r.address(key);
}

Leg read_leg(Reader r) {
  Leg leg;
  leg.port = PortId(r.u32("port", 65535));
  leg.vlan = uint16_t(r.u32("vlan", 4094));
  if (!r.null("mac")) leg.mac = r.mac("mac");
  return leg;
}

Instance read_instance(Reader r) {
  Instance x;
  x.id = uint16_t(r.u32("id", kMaxInstanceIds - 1));
  x.service = uint16_t(r.u32("service", kMaxInstanceIds - 1));
  if (r.null("attach")) {
    x.address = r.address("address");
    x.resolved = !r.null("mac");
    if (x.resolved) x.mac = r.mac("mac");
    if (!r.null("underlay")) x.underlay = uint8_t(r.u32("underlay", kMostUnderlays - 1));
    if (!r.null("mtu")) x.way_mtu = uint16_t(r.number("mtu", 68, 65535));
  } else {
    Reader attach = r.within("attach");
    x.reach = attach.choice("kind", {"bump", "routed"}) == 0 ? Instance::Reach::bump : Instance::Reach::routed;
    x.resolved = attach.boolean("up");
    x.legs[kWorkloadLeg] = read_leg(attach.within("workload"));
    x.legs[kNetworkLeg] = read_leg(attach.within("network"));
  }
  x.state = InstanceState(r.choice("state", {"up", "draining", "down", "standby"}));
  x.weight = uint16_t(r.number("weight", 1, 65535));
  if (!r.null("probe")) {
    Reader probe(r.object("probe"), "probe", r.error());
    constexpr double kHourMs = 3'600'000;
    x.probe.interval_ns = uint64_t(probe.number("intervalMs", 1, kHourMs) * 1e6);
    x.probe.timeout_ns = uint64_t(probe.number("timeoutMs", 1, kHourMs) * 1e6);
    x.probe.rise = uint32_t(probe.number("rise", 1, 1000));
    x.probe.fall = uint32_t(probe.number("fall", 1, 1000));
    x.probe.encapsulation = Encapsulation(probe.choice("encapsulation", {"nsh", "geneve"}));
  }
  const Napi::Array seed = r.array("seed");
  for (uint32_t i = 0; i < 2; i++) {
    const Napi::Value v = seed.Get(i);
    if (!v.IsNumber()) {
      r.fail("seed", "two 32-bit numbers");
      break;
    }
    x.seed[i] = v.As<Napi::Number>().Uint32Value();
  }
  return x;
}

Path read_path(Reader r) {
  Path p;
  p.id = r.u32("id", kMaxPathIds - 1);
  p.chain = r.u32("chain", kMaxChainIds - 1);
  p.encapsulation = Encapsulation(r.choice("encapsulation", {"nsh", "geneve"}));
  p.answers_backwards = r.choice("answers", {"backwards", "forwards"}) == 0;
  p.deliver = r.boolean("deliver");
  p.moved_to = r.u32("movedTo", kMaxPathIds - 1);
  const Napi::Array services = r.array("services");
  for (uint32_t i = 0; i < services.Length(); i++) {
    const Napi::Value v = services.Get(i);
    if (!v.IsNumber()) {
      r.fail("services", "service ids");
      break;
    }
    p.services.push_back(uint16_t(v.As<Napi::Number>().Uint32Value()));
  }
  return p;
}

// `members`: by position a list of [instance id, weight, tier, …]. Instances are found by their ids.
void read_members(Reader r, const std::vector<Instance>& instances, Path& p) {
  if (r.null("members")) return;
  const Napi::Array positions = r.array("members");
  for (uint32_t i = 0; i < positions.Length(); i++) {
    const Napi::Value list = positions.Get(i);
    if (!list.IsArray()) return r.fail("members", "lists of instance ids, weights and tiers");
    const Napi::Array row = list.As<Napi::Array>();
    std::vector<Member> members;
    for (uint32_t k = 0; k + 2 < row.Length(); k += 3) {
      const Napi::Value id = row.Get(k), weight = row.Get(k + 1), tier = row.Get(k + 2);
      if (!id.IsNumber() || !weight.IsNumber() || !tier.IsNumber()) return r.fail("members", "lists of instance ids, weights and tiers");
      const uint32_t wanted = id.As<Napi::Number>().Uint32Value(), w = weight.As<Napi::Number>().Uint32Value();
      const auto found = std::find_if(instances.begin(), instances.end(), [&](const Instance& x) { return x.id == wanted; });
      if (found == instances.end() || w == 0 || w > 65535) return r.fail("members", "ids of instances, with weights from 1 to 65535");
      members.push_back({uint16_t(found - instances.begin()), uint16_t(w), uint16_t(std::min(tier.As<Napi::Number>().Uint32Value(), 65535u))});
    }
    p.members.push_back(std::move(members));
  }
}

}  // namespace

std::shared_ptr<const Program> read_program(Napi::Object object, std::string& error, KnownRules* known) {
  auto program = std::make_shared<Program>();
  Program& p = *program;
  Reader r(object, "", error);
  p.generation = uint64_t(r.number("generation", 0, 9007199254740991.0));
  const Napi::Uint8Array key = r.bytes("affinityKey");
  if (key.ElementLength() == 16) {
    std::memcpy(p.affinity_key, key.Data(), 16);
  } else {
    r.fail("affinityKey", "16 bytes");
  }
  if (!r.null("probeKey")) {
    const Napi::Uint8Array probe_key = r.bytes("probeKey");
    if (probe_key.ElementLength() == 16) {
      std::memcpy(p.probe_key, probe_key.Data(), 16);
    } else {
      r.fail("probeKey", "16 bytes");
    }
  }
  p.default_action = r.choice("defaultAction", {"pass", "drop"}) == 0 ? Action::pass : Action::drop;
  p.mss_clamp = r.boolean("mssClamp");

  Reader idle(r.object("idle"), "idle", error);
  constexpr double kYearMs = 31'536'000'000;
  p.idle.tcp_ns = uint64_t(idle.number("tcp", 1, kYearMs) * 1e6);
  p.idle.other_ns = uint64_t(idle.number("other", 1, kYearMs) * 1e6);
  p.idle.closed_ns = uint64_t(idle.number("closed", 1, kYearMs) * 1e6);

  p.underlays.clear();
  r.each("underlays", [&](Reader x) { p.underlays.push_back({read_optional_address(x, "ipv4"), read_optional_address(x, "ipv6"), x.mac("mac"), uint32_t(x.number("mtu", 68, 65536)), !x.null("fragment") && x.boolean("fragment")}); });
  r.each("captures", [&](Reader x) { p.captures.push_back({x.string("name"), x.u32("tenant", 0xffffff), uint32_t(x.number("mtu", 68, 65536))}); });
  r.each("proxyPorts", [&](Reader x) { p.proxy_ports.push_back({x.mac("mac"), uint32_t(x.number("mtu", 68, 65536))}); });
  r.each("services", [&](Reader x) {
    Service s;
    s.id = uint16_t(x.u32("id", kMaxInstanceIds - 1));
    s.affinity = Affinity(x.choice("affinity", {"5-tuple", "3-tuple", "2-tuple"}));
    s.hold_on_failure = x.choice("onFailure", {"rebalance", "hold"}) == 1;
    s.fail_open = x.choice("fail", {"open", "closed"}) == 0;
    s.primary = !x.null("primary") && x.boolean("primary");
    p.services.push_back(std::move(s));
  });
  r.each("instances", [&](Reader x) { p.instances.push_back(read_instance(x)); });
  r.each("paths", [&](Reader x) {
    p.paths.push_back(read_path(x));
    read_members(x, p.instances, p.paths.back());
  });
  r.each("chains", [&](Reader x) { p.chains.push_back({x.u32("id", kMaxChainIds - 1), x.u32("path", kMaxPathIds - 1)}); });

  r.each("virtualAddresses", [&](Reader x) { p.virtual_addresses.push_back({x.address("address"), x.mac("mac")}); });
  r.each("moves", [&](Reader x) { p.moves.push_back({x.u32("policy", kMaxPolicyIds - 1), uint64_t(x.number("generation", 0, 9007199254740991.0))}); });

  const Napi::Uint8Array rules = r.bytes("rules");
  if (rules.ElementLength() % kRuleBytes) r.fail("rules", "rows of 64 bytes");
  if (known && known->program && rules.StrictEquals(known->rows.Value())) p.rules_of = known->program;
  if (!p.rules_of) p.rules.reserve(rules.ElementLength() / kRuleBytes);
  for (size_t at = 0; !p.rules_of && at + kRuleBytes <= rules.ElementLength(); at += kRuleBytes) p.rules.push_back(read_rule(rules.Data() + at));

  if (error.empty()) error = p.check();
  if (!error.empty()) {
    error = "the program is not valid: " + error;
    return nullptr;
  }
  if (known && !p.rules_of) {
    known->rows = Napi::Persistent(rules.As<Napi::Object>());
    known->program = program;
  }
  return program;
}

}  // namespace weir
