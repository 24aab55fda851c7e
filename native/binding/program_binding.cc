#include "binding/program_binding.h"

#include <cstring>

#include "binding/convert.h"

namespace weir {
namespace {

constexpr uint32_t kRuleBytes = 64;

uint16_t little16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
uint32_t little32(const uint8_t* p) { return uint32_t(little16(p)) | uint32_t(little16(p + 2)) << 16; }

// Layout: RULE_BYTES in src/dataplane/native.ts.
Rule read_rule(const uint8_t* p) {
  Rule r;
  std::memcpy(r.source.bytes.data(), p, 16);
  std::memcpy(r.destination.bytes.data(), p + 16, 16);
  r.source_prefix = p[32];
  r.destination_prefix = p[33];
  r.protocol = p[34];
  r.direction = p[35];
  for (uint32_t i = 0; i < 2; i++) {
    r.source_port[i] = little16(p + 36 + 2 * i);
    r.destination_port[i] = little16(p + 40 + 2 * i);
  }
  r.capture = little16(p + 44);
  r.vlan = little16(p + 46);
  r.action = p[48] == 2 ? Action::chain : p[48] == 1 ? Action::drop : Action::pass;
  r.chain = little32(p + 52);
  r.policy = little32(p + 56);
  return r;
}

std::optional<Address> read_optional_address(Reader& r, const char* key) {
  if (r.null(key)) return std::nullopt;
  return r.address(key);
}

Instance read_instance(Reader r) {
  Instance x;
  x.id = uint16_t(r.u32("id", kMaxInstanceIds - 1));
  x.service = uint16_t(r.u32("service", kMaxInstanceIds - 1));
  x.address = r.address("address");
  x.resolved = !r.null("mac");
  if (x.resolved) x.mac = r.mac("mac");
  x.state = InstanceState(r.choice("state", {"up", "draining", "down", "standby"}));
  x.weight = uint16_t(r.number("weight", 1, 65535));
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

}  // namespace

std::shared_ptr<const Program> read_program(Napi::Object object, std::string& error) {
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
  p.default_action = r.choice("defaultAction", {"pass", "drop"}) == 0 ? Action::pass : Action::drop;
  p.mss_clamp = r.boolean("mssClamp");

  Reader idle(r.object("idle"), "idle", error);
  constexpr double kYearMs = 31'536'000'000;
  p.idle.tcp_ns = uint64_t(idle.number("tcp", 1, kYearMs) * 1e6);
  p.idle.other_ns = uint64_t(idle.number("other", 1, kYearMs) * 1e6);
  p.idle.closed_ns = uint64_t(idle.number("closed", 1, kYearMs) * 1e6);

  Reader underlay(r.object("underlay"), "underlay", error);
  p.underlay_ipv4 = read_optional_address(underlay, "ipv4");
  p.underlay_ipv6 = read_optional_address(underlay, "ipv6");
  p.underlay_mac = underlay.mac("mac");
  p.underlay_mtu = uint32_t(underlay.number("mtu", 68, 65536));

  auto each = [&](const char* name, auto&& take) {
    const Napi::Array rows = r.array(name);
    for (uint32_t i = 0; i < rows.Length() && error.empty(); i++) take(r.at(rows, i, name));
  };
  each("captures", [&](Reader x) { p.captures.push_back({x.string("name"), x.u32("tenant", 0xffffff), uint32_t(x.number("mtu", 68, 65536))}); });
  each("services", [&](Reader x) {
    Service s;
    s.id = uint16_t(x.u32("id", kMaxInstanceIds - 1));
    s.affinity = Affinity(x.choice("affinity", {"5-tuple", "3-tuple", "2-tuple"}));
    s.hold_on_failure = x.choice("onFailure", {"rebalance", "hold"}) == 1;
    s.fail_open = x.choice("fail", {"open", "closed"}) == 0;
    p.services.push_back(std::move(s));
  });
  each("instances", [&](Reader x) { p.instances.push_back(read_instance(x)); });
  each("paths", [&](Reader x) { p.paths.push_back(read_path(x)); });
  each("chains", [&](Reader x) { p.chains.push_back({x.u32("id", kMaxChainIds - 1), x.u32("path", kMaxPathIds - 1)}); });

  const Napi::Uint8Array rules = r.bytes("rules");
  if (rules.ElementLength() % kRuleBytes) r.fail("rules", "rows of 64 bytes");
  p.rules.reserve(rules.ElementLength() / kRuleBytes);
  for (size_t at = 0; at + kRuleBytes <= rules.ElementLength(); at += kRuleBytes) p.rules.push_back(read_rule(rules.Data() + at));

  if (error.empty()) error = p.check();
  if (!error.empty()) {
    error = "the program is not valid: " + error;
    return nullptr;
  }
  return program;
}

}  // namespace weir
