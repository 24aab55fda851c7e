// The ring ports and the pipeline on threads of their own, behind promises.
#include <functional>
#include <memory>

#include "binding/binding.h"
#include "binding/convert.h"
#include "binding/program_binding.h"
#include "binding/views_binding.h"
#include "port/ring_port.h"
#include "worker_group.h"

namespace weir {
namespace {

using Completion = std::function<void(Napi::Env)>;

class WorkerObject final : public Napi::ObjectWrap<WorkerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Worker",
                       {InstanceMethod("install", &WorkerObject::install), InstanceMethod("flows", &WorkerObject::flows),
                        InstanceMethod("describe", &WorkerObject::describe), InstanceMethod("counters", &WorkerObject::counters),
                        InstanceMethod("stop", &WorkerObject::stop), InstanceAccessor<&WorkerObject::finished>("finished")});
  }

  explicit WorkerObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "Worker: expected options {flowsMax, workers, interfaces, program}");
      return;
    }
    std::string error;
    const Napi::Object options = info[0].As<Napi::Object>();
    EngineLimits limits = read_limits(options, error);
    Reader r(options, "options", error);
    const Napi::Array names = r.array("interfaces");
    const uint32_t workers = uint32_t(r.number("workers", 1, kMaxWorkers));
    program_ = error.empty() ? read_program(r.object("program"), error) : nullptr;
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    std::vector<std::vector<std::unique_ptr<Port>>> ports(workers);
    for (uint32_t i = 0; i < names.Length(); i++) {
      const Napi::Value name = names.Get(i);
      interfaces_.push_back(name.IsString() ? name.As<Napi::String>().Utf8Value() : "");
      RingOptions ring;
      ring.interface = interfaces_.back();
      ring.stamped_only = i == kUnderlayPort;
      ring.fanout = workers > 1;
      // A ring much larger than the processor's cache costs bulk traffic half its rate: every frame then comes from memory. A host
      // with many captures has less of a burst on each.
      ring.megabytes = std::max((ring.stamped_only || names.Length() <= 9 ? 32 : 8) / workers, 8u);
      for (uint32_t w = 0; w < workers; w++) {
        if (ring.interface.empty()) {
          ports[w].push_back(nullptr);
          continue;
        }
        auto opened = RingPort::open(ring);
        if (const std::string* reason = std::get_if<std::string>(&opened)) {
          Napi::Error::New(env, *reason).ThrowAsJavaScriptException();
          return;
        }
        auto port = std::move(std::get<std::unique_ptr<RingPort>>(opened));
        ring.fanout_group = port->fanout_group();
        ports[w].push_back(std::move(port));
      }
    }
    limits.touched = true;
    workers_ = std::make_unique<WorkerGroup>(limits, std::move(ports));
    completions_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "weir worker", 0, 1);
    finished_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    finished_promise_ = Napi::Persistent(Napi::Object(env, finished_->Promise()));
    Ref();  // lives at least as long as its thread
    workers_->start(program_, [this](std::string reason) {
      complete([this, reason = std::move(reason)](Napi::Env env) { ended(env, reason); });
    });
  }

 private:
  void complete(Completion completion) {
    completions_.BlockingCall(new Completion(std::move(completion)), [](Napi::Env env, Napi::Function, Completion* done) {
      (*done)(env);
      delete done;
    });
  }

  // The thread has said its last word.
  void ended(Napi::Env env, const std::string& reason) {
    workers_->join();
    over_ = true;
    if (reason.empty()) {
      finished_->Resolve(env.Undefined());
    } else {
      finished_->Reject(Napi::Error::New(env, reason).Value());
    }
    completions_.Release();
    Unref();
  }

  // Runs `work` on the thread and resolves with what `answer` makes of its result, here.
  template <typename Result>
  Napi::Value ask(Napi::Env env, std::function<Result(Engine&)> work, std::function<Napi::Value(Napi::Env, const Result&)> answer) {
    auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    const Napi::Value promise = deferred->Promise();
    if (over_ || !workers_) {
      deferred->Reject(Napi::Error::New(env, "the dataplane has stopped").Value());
      return promise;
    }
    workers_->post([this, deferred, work = std::move(work), answer = std::move(answer)](Engine& engine) {
      auto result = std::make_shared<Result>(work(engine));
      complete([deferred, result, answer](Napi::Env e) { deferred->Resolve(answer(e, *result)); });
    });
    return promise;
  }

  Napi::Value install(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsObject()) return throw_type_error(info.Env(), "install: expected a program");
    std::string error;
    auto program = read_program(info[0].As<Napi::Object>(), error);
    if (!program) return throw_type_error(info.Env(), error);
    auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
    if (over_) {
      deferred->Reject(Napi::Error::New(info.Env(), "the dataplane has stopped").Value());
      return deferred->Promise();
    }
    program_ = program;
    workers_->install(std::move(program), [this, deferred] {
      complete([this, deferred](Napi::Env env) {
        workers_->collect();
        deferred->Resolve(env.Undefined());
      });
    });
    return deferred->Promise();
  }

  Napi::Value flows(const Napi::CallbackInfo& info) {
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber()) return throw_type_error(info.Env(), "flows: expected (cursor, max)");
    constexpr uint32_t kMost = 512;  // copied between two batches
    const uint32_t cursor = info[0].As<Napi::Number>().Uint32Value(), max = std::min(info[1].As<Napi::Number>().Uint32Value(), kMost);
    return ask<FlowPage>(info.Env(), [cursor, max](Engine& engine) { return list_flows(engine, cursor, max); },
                         [](Napi::Env env, const FlowPage& page) -> Napi::Value { return flows_to_js(env, page); });
  }

  Napi::Value describe(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsObject()) return throw_type_error(info.Env(), "describe: expected a tuple");
    std::string error;
    const Tuple tuple = read_tuple(info[0].As<Napi::Object>(), *program_, error);
    if (!error.empty()) return throw_type_error(info.Env(), error);
    return ask<Decision>(info.Env(), [tuple](Engine& engine) { return engine.describe(tuple); },
                         [](Napi::Env env, const Decision& decision) -> Napi::Value { return decision_to_js(env, decision); });
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    std::vector<PortView> ports;
    for (size_t i = 0; i < interfaces_.size(); i++)
      if (workers_->has_port(PortId(i))) ports.push_back({PortId(i), interfaces_[i], workers_->port_counters(PortId(i))});
    return counters_to_js(info.Env(), workers_->counters(), workers_->flow_capacity(), *program_, ports);
  }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_promise_.Value(); }

  Napi::Value stop(const Napi::CallbackInfo&) {
    workers_->stop();
    return finished_promise_.Value();
  }

  std::shared_ptr<const Program> program_;  // the last one installed, for naming ids
  std::vector<std::string> interfaces_;
  std::unique_ptr<WorkerGroup> workers_;
  Napi::ThreadSafeFunction completions_;
  std::unique_ptr<Napi::Promise::Deferred> finished_;
  Napi::ObjectReference finished_promise_;
  bool over_ = false;
};

}  // namespace

void register_worker(Napi::Env env, Napi::Object exports) { exports["Worker"] = WorkerObject::define(env); }

}  // namespace weir
