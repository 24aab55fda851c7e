// A service instance for JavaScript. Its function, if it is JavaScript too, is attached by a FunctionLink, from any thread.
#include <memory>

#include "binding/binding.h"
#include "binding/completion.h"
#include "binding/convert.h"
#include "binding/fragments_view.h"
#include "binding/mesh_binding.h"
#include "binding/node_handles.h"
#include "binding/unit_binding.h"
#include "binding/views_binding.h"
#include "node/service_node.h"
#include "port/ring_port.h"

namespace weir {
namespace {

constexpr const char* kFunctions[] = {"pass", "closed", "open"};

std::shared_ptr<const Group> read_group(Napi::Object object, std::string& error) {
  auto group = std::make_shared<Group>();
  Reader r(object, "group", error);
  group->primary = r.boolean("primary");
  group->own_id = uint16_t(r.u32("ownId", 65534));
  group->own_mac = r.mac("ownMac");
  r.each("members", [&](Reader m) {
    Group::Member& x = group->members.emplace_back();
    x.id = uint16_t(m.u32("id", 65534));
    x.address = m.address("address");
    x.usable = m.boolean("usable") && !m.null("mac");
    if (!m.null("mac")) x.mac = m.mac("mac");
    x.takes_new = m.boolean("takesNew");
    x.weight = uint16_t(m.u32("weight", 65535));
    x.seed[0] = m.u32("seed0");
    x.seed[1] = m.u32("seed1");
    if (x.id == group->own_id) group->own = x.address;
  });
  if (error.empty()) error = group->check();
  return error.empty() ? group : nullptr;
}

class NodeObject final : public Napi::ObjectWrap<NodeObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Node", {InstanceMethod("counters", &NodeObject::counters), InstanceMethod("stop", &NodeObject::stop), InstanceMethod("joinGroup", &NodeObject::join_group),
                                     InstanceMethod("installMap", &NodeObject::install_map), InstanceMethod("unreachable", &NodeObject::unreachable),
                                     InstanceMethod("joinAppliance", &NodeObject::join_appliance), InstanceMethod("liveStreams", &NodeObject::live_streams),
                                     InstanceAccessor<&NodeObject::finished>("finished"), InstanceAccessor<&NodeObject::handle>("handle")});
  }

  explicit NodeObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "Node: expected options {interface, address, function}");
      return;
    }
    std::string error;
    Reader r(info[0].As<Napi::Object>(), "options", error);
    interface_ = r.string("interface");
    const Address address = r.address("address");
    const auto function = ServiceNode::Function(r.choice("function", kFunctions));
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    RingOptions ring;
    ring.interface = interface_;
    ring.stamped_only = ring.fragments = true;
    auto opened = RingPort::open(ring);
    if (const std::string* reason = std::get_if<std::string>(&opened)) {
      Napi::Error::New(env, *reason).ThrowAsJavaScriptException();
      return;
    }
    finished_.begin(env);
    finished_.listen(env, "weir node");
    node_ = std::make_unique<ServiceNode>(std::move(std::get<std::unique_ptr<RingPort>>(opened)), address, function);
    handle_ = NodeHandles::instance().add(node_.get());
    Ref();
    node_->start([this](std::string reason) {
      finished_.call([this, reason = std::move(reason)](Napi::Env e) { ended(e, reason); });
    });
  }

  ~NodeObject() override { NodeHandles::instance().remove(handle_); }

 private:
  // Has the node take what `read` makes of the first argument; null where that is no object. Throws a TypeError for one that makes no sense.
  template <typename Read, typename Take>
  Napi::Value give(const Napi::CallbackInfo& info, Read&& read, Take&& take) {
    const Napi::Env env = info.Env();
    std::string error;
    decltype(read(Napi::Object(), error)) made;
    if (info.Length() > 0 && info[0].IsObject()) {
      made = read(info[0].As<Napi::Object>(), error);
      if (!made) return throw_type_error(env, error);
    }
    take(std::move(made));
    return env.Undefined();
  }

  void ended(Napi::Env env, const std::string& reason) {
    node_->join();
    finished_.settle(env, reason);
    Unref();
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const NodeCounters& c = node_->counters();
    Napi::Object o = Napi::Object::New(env), dropped = Napi::Object::New(env);
    o["received"] = traffic_to_js(env, c.received);
    o["returned"] = traffic_to_js(env, c.returned);
    for (size_t i = 0; i < size_t(NodeDrop::count_); i++) dropped[kNodeDropNames[i]] = Napi::Number::New(env, double(c.dropped[i].get()));
    o["bypassed"] = traffic_to_js(env, c.bypassed);
    o["handedOn"] = traffic_to_js(env, c.handed_on);
    o["exited"] = traffic_to_js(env, c.exited);
    o["unknownPath"] = Napi::Number::New(env, double(c.unknown_path.get()));
    o["fragments"] = fragments_to_js(env, node_->fragments());
    o["dropped"] = dropped;
    o["group"] = env.Null();
    if (const GroupCounters* g = node_->group_counters()) {
      Napi::Object group = Napi::Object::New(env);
      group["directed"] = traffic_to_js(env, g->directed);
      group["handedBack"] = traffic_to_js(env, g->handed_back);
      group["chosen"] = Napi::Number::New(env, double(g->chosen.get()));
      group["forgotten"] = Napi::Number::New(env, double(g->forgotten.get()));
      group["lost"] = Napi::Number::New(env, double(g->lost.get()));
      o["group"] = group;
    }
    o["appliance"] = env.Null();
    if (const SecondChance* chance = node_->second_chance()) {
      const ChanceCounters& c = chance->counters();
      Napi::Object appliance = Napi::Object::New(env);
      appliance["passedOn"] = traffic_to_js(env, c.passed_on);
      appliance["takenUp"] = traffic_to_js(env, c.taken_up);
      appliance["opened"] = Napi::Number::New(env, double(c.opened.get()));
      appliance["openedMidstream"] = Napi::Number::New(env, double(c.opened_midstream.get()));
      appliance["forgotten"] = Napi::Number::New(env, double(c.forgotten.get()));
      o["appliance"] = appliance;
    }
    Napi::Object function = Napi::Object::New(env);
    const auto queue = node_->queue();
    function["attached"] = Napi::Boolean::New(env, queue != nullptr);
    function["waitingMs"] = Napi::Number::New(env, queue ? double(queue->waiting_ns(steady_ns())) / 1e6 : 0);
    o["function"] = function;
    o["port"] = port_to_js(env, {0, interface_, node_->port().counters()});
    return o;
  }

  // joinGroup(group | null).
  Napi::Value join_group(const Napi::CallbackInfo& info) {
    return give(info, read_group, [this](auto group) { node_->join_group(std::move(group)); });
  }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_.promise(); }
  Napi::Value stop(const Napi::CallbackInfo&) {
    node_->stop();
    return finished_.promise();
  }

  // installMap(map | null).
  Napi::Value install_map(const Napi::CallbackInfo& info) {
    return give(info, read_mesh_map, [this](auto map) { node_->install(std::move(map)); });
  }

  // joinAppliance(maps | null).
  Napi::Value join_appliance(const Napi::CallbackInfo& info) {
    return give(info, read_unit_maps, [this](auto maps) { node_->join_appliance(std::move(maps)); });
  }

  // Of the maps at hand: {streams, elsewhere, byVersion: [version, streams, …]}; null where there are none.
  Napi::Value live_streams(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto maps = node_->units();
    const SecondChance* chance = node_->second_chance();
    if (!maps || !chance) return env.Null();
    const SecondChance::Live live = chance->live(*maps, steady_s());
    Napi::Object o = Napi::Object::New(env);
    Napi::Array rows = Napi::Array::New(env);
    for (size_t i = 0; i < live.by_map.size(); i++) {
      rows[uint32_t(2 * i)] = Napi::Number::New(env, maps->maps[i].version);
      rows[uint32_t(2 * i + 1)] = Napi::Number::New(env, live.by_map[i]);
    }
    o["streams"] = Napi::Number::New(env, live.streams);
    o["elsewhere"] = Napi::Number::New(env, live.elsewhere);
    o["byVersion"] = rows;
    return o;
  }

  // Of the map at hand: [index of the instance, count, …] of those with any.
  Napi::Value unreachable(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Array rows = Napi::Array::New(env);
    const auto map = node_->map();
    uint32_t n = 0;
    for (size_t i = 0; map && i < map->instances.size(); i++) {
      const uint64_t count = map->unreachable(i);
      if (!count) continue;
      rows[n++] = Napi::Number::New(env, double(i));
      rows[n++] = Napi::Number::New(env, double(count));
    }
    return rows;
  }

  Napi::Value handle(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), handle_); }

  std::string interface_;
  uint32_t handle_ = 0;
  Completion finished_;
  std::unique_ptr<ServiceNode> node_;
};

}  // namespace

void register_node(Napi::Env env, Napi::Object exports) { exports["Node"] = NodeObject::define(env); }

}  // namespace weir
