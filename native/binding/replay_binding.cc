// Replay on JavaScript's thread, a number of packets at a time.
#include "binding/binding.h"
#include "binding/convert.h"
#include "binding/program_binding.h"
#include "binding/views_binding.h"
#include "replay/replay.h"

namespace weir {
namespace {

class ReplayObject final : public Napi::ObjectWrap<ReplayObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Replay", {InstanceMethod("step", &ReplayObject::step), InstanceMethod("flows", &ReplayObject::flows),
                                       InstanceMethod("counters", &ReplayObject::counters), InstanceMethod("close", &ReplayObject::close)});
  }

  explicit ReplayObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "Replay: expected options {flowsMax, read, write, out, workload, program}");
      return;
    }
    std::string error;
    const Napi::Object options = info[0].As<Napi::Object>();
    const EngineLimits limits = read_limits(options, error);
    Reader r(options, "options", error);
    ReplayFiles files;
    files.read = r.string("read");
    if (!r.null("write")) files.write = r.string("write");
    if (!r.null("out")) files.out = r.string("out");
    const Napi::Array prefixes = r.array("workload");
    for (uint32_t i = 0; i < prefixes.Length(); i++) files.workload.push_back(read_prefix(r, prefixes.Get(i)));
    auto program = error.empty() ? read_program(r.object("program"), error) : nullptr;
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    replay_ = std::make_unique<Replay>(limits, std::move(program));
    if (error = replay_->open(files); !error.empty()) Napi::Error::New(env, error).ThrowAsJavaScriptException();
  }

 private:
  static Prefix read_prefix(Reader& r, const Napi::Value& value) {
    const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
    const size_t slash = text.find('/');
    const auto address = parse_address(text.substr(0, slash));
    if (!address) {
      r.fail("workload", "prefixes such as 10.0.0.0/24");
      return {};
    }
    const uint32_t most = address->is_ipv4() ? 32 : 128;
    const uint32_t length = slash == std::string::npos ? most : uint32_t(std::strtoul(text.c_str() + slash + 1, nullptr, 10));
    if (length > most) r.fail("workload", "a prefix length up to " + std::to_string(most));
    return {*address, std::min(length, most) + (128 - most)};
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsNumber()) return throw_type_error(env, "step: expected a number of packets");
    const ReplayProgress& p = replay_->step(info[0].As<Napi::Number>().Uint32Value());
    Napi::Object o = Napi::Object::New(env);
    o["packets"] = Napi::Number::New(env, double(p.packets));
    o["unusable"] = Napi::Number::New(env, double(p.unusable));
    o["bytesRead"] = Napi::Number::New(env, double(p.bytes_read));
    o["bytesTotal"] = Napi::Number::New(env, double(p.bytes_total));
    o["done"] = Napi::Boolean::New(env, p.done);
    o["error"] = p.error.empty() ? Napi::Value(env.Null()) : Napi::Value(Napi::String::New(env, p.error));
    return o;
  }

  Napi::Value flows(const Napi::CallbackInfo& info) {
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber()) return throw_type_error(info.Env(), "flows: expected (cursor, max)");
    return flows_to_js(info.Env(), list_flows(replay_->engine(), info[0].As<Napi::Number>().Uint32Value(), info[1].As<Napi::Number>().Uint32Value()));
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Engine& engine = replay_->engine();
    return counters_to_js(info.Env(), {&engine.counters()}, {engine.flows().capacity(), engine.fragments_held()}, engine.program(), {});
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    if (const std::string error = replay_->close(); !error.empty()) Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }

  std::unique_ptr<Replay> replay_;
};

}  // namespace

void register_replay(Napi::Env env, Napi::Object exports) { exports["Replay"] = ReplayObject::define(env); }

}  // namespace weir
