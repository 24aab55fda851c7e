#include "binding/flow_file_binding.h"

#include <cstring>

#include "binding/binding.h"
#include "binding/convert.h"

namespace weir {
namespace {

class FlowFileObject final : public Napi::ObjectWrap<FlowFileObject> {
 public:
  static thread_local Napi::FunctionReference constructor;  // one for each environment: the addon may be loaded by worker threads, too

  static Napi::Function define(Napi::Env env) {
    const Napi::Function function =
        DefineClass(env, "FlowFile",
                    {InstanceAccessor<&FlowFileObject::note>("note"), InstanceAccessor<&FlowFileObject::huge>("huge"),
                     InstanceAccessor<&FlowFileObject::descriptor>("descriptor"), InstanceMethod("publish", &FlowFileObject::publish),
                     InstanceMethod("rest", &FlowFileObject::rest), StaticMethod("removeUnused", &FlowFileObject::remove_unused)});
    constructor = Napi::Persistent(function);
    constructor.SuppressDestruct();
    return function;
  }

  explicit FlowFileObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "FlowFile: expected options {path, flowsMax, bootId, identity, affinityKey, fresh, descriptor}");
      return;
    }
    std::string error;
    Reader r(info[0].As<Napi::Object>(), "options", error);
    FlowFileOptions options;
    options.path = r.string("path");
    options.capacity = uint32_t(r.number("flowsMax", 1, kMostFlows));
    auto copy = [&](const char* key, void* to, size_t bytes) {
      const Napi::Uint8Array from = r.bytes(key);
      if (from.ByteLength() == bytes) std::memcpy(to, from.Data(), bytes);
      else r.fail(key, std::to_string(bytes) + " bytes");
    };
    copy("bootId", options.boot_id.data(), 16);
    copy("identity", &options.identity, 8);
    copy("affinityKey", options.affinity_key, 16);
    options.fresh = r.boolean("fresh");
    if (!r.null("descriptor")) options.descriptor = int(r.u32("descriptor", 0x7fffffff));
    if (error.empty() && (options.path.empty() || options.path[0] != '/')) r.fail("path", "an absolute path");
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    FlowFile::Opened opened = FlowFile::open(options);
    if (!opened.file) {
      Napi::Error e = Napi::Error::New(env, opened.error);
      e.Set("code", Napi::String::New(env, opened.busy ? "EBUSY" : "EIO"));
      e.ThrowAsJavaScriptException();
      return;
    }
    file_ = std::move(opened.file);
  }

  std::shared_ptr<FlowFile> file() const { return file_; }

 private:
  Napi::Value note(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), file_->note()); }
  Napi::Value huge(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), file_->huge()); }
  Napi::Value descriptor(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), file_->descriptor()); }
  Napi::Value publish(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), file_->publish()); }
  Napi::Value rest(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsNumber()) return throw_type_error(info.Env(), "rest: expected the number of live streams");
    file_->rest(info[0].As<Napi::Number>().Uint32Value());
    return info.Env().Undefined();
  }
  static Napi::Value remove_unused(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsString()) return throw_type_error(info.Env(), "removeUnused: expected a path");
    return Napi::Boolean::New(info.Env(), FlowFile::remove_unused(info[0].As<Napi::String>()));
  }

  std::shared_ptr<FlowFile> file_;
};

thread_local Napi::FunctionReference FlowFileObject::constructor;

}  // namespace

FlowFileUse read_flow_file(Napi::Object options, std::string& error) {
  FlowFileUse use;
  Reader r(options, "options", error);
  if (r.null("flowFile")) return use;
  const Napi::Object object = r.object("flowFile");
  if (!error.empty()) return use;
  if (!object.InstanceOf(FlowFileObject::constructor.Value())) {
    r.fail("flowFile", "a FlowFile");
    return use;
  }
  use.file = FlowFileObject::Unwrap(object)->file();
  const Napi::Array tenants = r.array("tenants");
  for (uint32_t i = 0; i < tenants.Length(); i++) use.tenants.push_back(tenants.Get(i).ToNumber().Uint32Value());
  if (use.file->rows().capacity != uint32_t(r.number("flowsMax", 1, kMostFlows))) r.fail("flowFile", "a file for flowsMax streams");
  return use;
}

Napi::Object adoption_to_js(Napi::Env env, const Adoption& a, double milliseconds) {
  Napi::Object o = Napi::Object::New(env);
  const std::pair<const char*, uint32_t> counts[] = {{"kept", a.kept}, {"repinned", a.repinned}, {"expired", a.expired}, {"noPath", a.no_path},
                                                     {"noCapture", a.no_capture}, {"damaged", a.damaged}, {"noRoom", a.no_room}};
  for (const auto& [name, count] : counts) o[name] = Napi::Number::New(env, count);
  o["milliseconds"] = Napi::Number::New(env, milliseconds);
  return o;
}

void register_flow_file(Napi::Env env, Napi::Object exports) { exports["FlowFile"] = FlowFileObject::define(env); }

}  // namespace weir
