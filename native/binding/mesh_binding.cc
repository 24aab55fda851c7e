#include "binding/mesh_binding.h"

#include "binding/binding.h"
#include "binding/place_binding.h"

namespace weir {
namespace {

MeshHop read_hop(Reader r) {
  MeshHop hop;
  hop.service = uint16_t(r.u32("service", 65535));
  hop.fail_open = r.boolean("failOpen");
  hop.members = read_members(r, true);
  return hop;
}

}  // namespace

std::shared_ptr<const MeshMap> read_mesh_map(Napi::Object object, std::string& error) {
  auto map = std::make_shared<MeshMap>();
  Reader r(object, "map", error);
  map->version = r.number("version", 0, 9007199254740991.0);
  map->own = read_place(r.within("own"));
  map->own_service = uint16_t(r.u32("ownService", 65535));
  r.each("forwarders", [&](Reader x) { map->forwarders.push_back(read_place(x)); });
  r.each("instances", [&](Reader x) { map->instances.push_back(read_ranked_place(x)); });
  r.each("paths", [&](Reader x) {
    MeshPath path;
    const uint32_t id = x.u32("id", kMaxPathIds - 1);
    path.hands_on = x.boolean("handsOn");
    path.answers_backwards = x.boolean("answersBackwards");
    path.exits_directly = x.boolean("exitsDirectly");
    x.each("hops", [&](Reader hop) { path.hops.push_back(read_hop(hop)); });
    if (!map->paths.emplace(id, std::move(path)).second) x.fail("id", "each path once");
  });
  if (error.empty()) error = map->check();
  if (!error.empty()) {
    error = "the service map is not valid: " + error;
    return nullptr;
  }
  return map;
}

namespace {

constexpr const char* kKinds[] = {"back", "instance", "forwarder", "exit", "refused"};

// A map by itself, for whoever asks it without a node: simulation, tests.
class MeshMapObject final : public Napi::ObjectWrap<MeshMapObject> {
 public:
  static Napi::Function define(Napi::Env env) { return DefineClass(env, "MeshMap", {InstanceMethod("next", &MeshMapObject::next)}); }

  explicit MeshMapObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "MeshMap: expected a map");
      return;
    }
    std::string error;
    map_ = read_mesh_map(info[0].As<Napi::Object>(), error);
    if (!map_) throw_type_error(env, error);
  }

 private:
  // next(spi, si, code): {kind, reason, instance, si}.
  Napi::Value next(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) return throw_type_error(env, "next: expected SPI, SI and code");
    const MeshStep step = map_->next(info[0].As<Napi::Number>().Uint32Value(), uint8_t(info[1].As<Napi::Number>().Uint32Value()), info[2].As<Napi::Number>().Uint32Value());
    Napi::Object o = Napi::Object::New(env);
    o["kind"] = Napi::String::New(env, kKinds[size_t(step.kind)]);
    o["reason"] = step.reason == NodeDrop::count_ ? env.Null() : Napi::Value(Napi::String::New(env, kNodeDropNames[size_t(step.reason)]));
    o["instance"] = step.instance == kNoInstance ? env.Null() : Napi::Value(Napi::Number::New(env, step.instance));
    o["si"] = Napi::Number::New(env, step.si);
    return o;
  }

  std::shared_ptr<const MeshMap> map_;
};

}  // namespace

void register_mesh(Napi::Env env, Napi::Object exports) { exports["MeshMap"] = MeshMapObject::define(env); }

}  // namespace weir
