// The pipeline on JavaScript's thread, for the `pcap` and `sim` ports and for tests.
#include <cstring>
#include <vector>

#include "binding/binding.h"
#include "binding/convert.h"
#include "binding/flow_file_binding.h"
#include "binding/program_binding.h"
#include "binding/signals_binding.h"
#include "binding/views_binding.h"
#include "engine/frame_collector.h"
#include "worker.h"

namespace weir {
namespace {

class EngineObject final : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Engine",
                       {InstanceMethod("install", &EngineObject::install), InstanceMethod("process", &EngineObject::process),
                        InstanceMethod("flows", &EngineObject::flows), InstanceMethod("describe", &EngineObject::describe),
                        InstanceMethod("counters", &EngineObject::counters), InstanceMethod("adopt", &EngineObject::adopt),
                        InstanceMethod("signals", &EngineObject::signals),
                        InstanceMethod("probe", &EngineObject::probe), InstanceMethod("probeDue", &EngineObject::probe_due),
                        InstanceMethod("probes", &EngineObject::probes), InstanceMethod("takeProbeNews", &EngineObject::take_probe_news)});
  }

  explicit EngineObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    std::string error;
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(info.Env(), "Engine: expected options {flowsMax}");
      return;
    }
    EngineLimits limits = read_limits(info[0].As<Napi::Object>(), error);
    FlowFileUse use = read_flow_file(info[0].As<Napi::Object>(), error);
    limits.file = use.file;
    tenants_ = std::move(use.tenants);
    if (!error.empty()) {
      throw_type_error(info.Env(), error);
      return;
    }
    engine_ = std::make_unique<Engine>(limits);
  }

 private:
  Napi::Value install(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsObject()) return throw_type_error(info.Env(), "install: expected a program");
    std::string error;
    auto program = read_program(info[0].As<Napi::Object>(), error, &known_rules_);
    if (!program) return throw_type_error(info.Env(), error);
    if (error = engine_->flows().reserve(program->longest_path()); !error.empty()) {
      Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
      return info.Env().Undefined();
    }
    engine_->install(std::move(program));
    return info.Env().Undefined();
  }

  Napi::Value adopt(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsBigInt()) return throw_type_error(info.Env(), "adopt: expected (timeNs: bigint)");
    if (!engine_->flows().file()) return info.Env().Null();
    bool lossless;
    const uint64_t before = monotonic_ns();
    const Adoption adoption = engine_->adopt(info[0].As<Napi::BigInt>().Uint64Value(&lossless), tenants_);
    return adoption_to_js(info.Env(), adoption, double(monotonic_ns() - before) / 1e6);
  }

  Napi::Value process(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 3 || !info[0].IsBigInt() || !info[1].IsNumber() || !info[2].IsTypedArray())
      return throw_type_error(env, "process: expected (timeNs: bigint, port: number, frame: Uint8Array, offloadUnknown?: boolean)");
    bool lossless;
    const uint64_t now = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
    const Napi::Uint8Array bytes = info[2].As<Napi::Uint8Array>();
    constexpr size_t kLargest = 1 << 20;
    if (bytes.ByteLength() > kLargest) return throw_type_error(env, "process: a frame has at most 1 MiB");
    // A copy: the pipeline writes into frames, and wants room before them.
    buffer_.resize(kHeadroom + bytes.ByteLength());
    std::memcpy(buffer_.data() + kHeadroom, bytes.Data(), bytes.ByteLength());
    Frame frame{buffer_.data() + kHeadroom, uint32_t(bytes.ByteLength()), uint32_t(bytes.ByteLength()), kHeadroom, {}, false};
    frame.offload_unknown = info.Length() > 3 && info[3].ToBoolean();
    engine_->process(now, PortId(info[1].As<Napi::Number>().Uint32Value()), frame, sink_);
    // An empty frame moves the clock, and everything that is due by then happens.
    while (engine_->tick(now) && bytes.ByteLength() == 0) {
    }
    return emitted(env);
  }

  Napi::Value emitted(Napi::Env env) {
    Napi::Array out = Napi::Array::New(env, sink_.frames().size());
    uint32_t n = 0;
    for (const CollectedFrame& f : sink_.frames()) {
      Napi::Object o = Napi::Object::New(env);
      o["port"] = Napi::Number::New(env, f.port);
      o["bytes"] = Napi::Buffer<uint8_t>::Copy(env, f.bytes.data(), f.bytes.size());
      out[n++] = o;
    }
    sink_.clear();
    return out;
  }

  Napi::Value probe(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsBigInt()) return throw_type_error(info.Env(), "probe: expected (timeNs: bigint)");
    bool lossless;
    engine_->refresh();
    engine_->probe(info[0].As<Napi::BigInt>().Uint64Value(&lossless), sink_);
    return emitted(info.Env());
  }

  Napi::Value probe_due(const Napi::CallbackInfo& info) {
    const uint64_t due = engine_->probes().due();
    if (due == kNever) return info.Env().Null();
    return Napi::BigInt::New(info.Env(), due);
  }
  Napi::Value probes(const Napi::CallbackInfo& info) { return probes_to_js(info.Env(), engine_->probes().rows()); }
  Napi::Value take_probe_news(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), engine_->probes().take_news()); }
  Napi::Value signals(const Napi::CallbackInfo& info) { return signals_to_js(info.Env(), {&engine_->counters()}, engine_->program()); }

  Napi::Value flows(const Napi::CallbackInfo& info) {
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber()) return throw_type_error(info.Env(), "flows: expected (cursor, max)");
    return flows_to_js(info.Env(), list_flows(*engine_, info[0].As<Napi::Number>().Uint32Value(), info[1].As<Napi::Number>().Uint32Value()));
  }

  Napi::Value describe(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsObject()) return throw_type_error(info.Env(), "describe: expected a tuple");
    std::string error;
    const Tuple tuple = read_tuple(info[0].As<Napi::Object>(), engine_->program(), error);
    if (!error.empty()) return throw_type_error(info.Env(), error);
    return decision_to_js(info.Env(), engine_->describe(tuple));
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    return counters_to_js(info.Env(), {&engine_->counters()}, {engine_->flows().capacity(), engine_->fragments_held()}, engine_->program(), {});
  }

  static constexpr uint32_t kHeadroom = 192;
  std::unique_ptr<Engine> engine_;
  std::vector<uint32_t> tenants_;  // of captures whose streams may be adopted
  std::vector<uint8_t> buffer_;
  FrameCollector sink_;
  KnownRules known_rules_;
};

Napi::Value affinity_code_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const bool ok = info.Length() == 8 && info[0].IsTypedArray() && info[1].IsNumber() && info[2].IsNumber() && info[3].IsString() &&
                  info[4].IsNumber() && info[5].IsString() && info[6].IsNumber() && info[7].IsString();
  if (!ok || info[0].As<Napi::Uint8Array>().ByteLength() != 16)
    return throw_type_error(env, "affinityCode: expected (key of 16 bytes, tenant, protocol, source, port, destination, port, affinity)");
  uint64_t key[2];
  std::memcpy(key, info[0].As<Napi::Uint8Array>().Data(), 16);
  const auto source = parse_address(info[3].As<Napi::String>()), destination = parse_address(info[5].As<Napi::String>());
  if (!source || !destination) return throw_type_error(env, "affinityCode: expected IP addresses");
  Tuple t;
  t.tenant = info[1].As<Napi::Number>().Uint32Value();
  t.protocol = uint8_t(info[2].As<Napi::Number>().Uint32Value());
  t.source = *source;
  t.source_port = uint16_t(info[4].As<Napi::Number>().Uint32Value());
  t.destination = *destination;
  t.destination_port = uint16_t(info[6].As<Napi::Number>().Uint32Value());
  const std::string name = info[7].As<Napi::String>();
  const Affinity affinity = name == "2-tuple" ? Affinity::two_tuple : name == "3-tuple" ? Affinity::three_tuple : Affinity::five_tuple;
  return Napi::Number::New(env, affinity_code(key, flow_key(t), affinity));
}

}  // namespace

void register_engine(Napi::Env env, Napi::Object exports) {
  exports["Engine"] = EngineObject::define(env);
  exports["affinityCode"] = Napi::Function::New(env, affinity_code_js, "affinityCode");
}

}  // namespace weir
