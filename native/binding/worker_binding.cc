// The ring ports and the pipeline on threads of their own, behind promises.
#include <functional>
#include <memory>
#include <variant>

#include "binding/binding.h"
#include "binding/completion.h"
#include "binding/convert.h"
#include "binding/flow_file_binding.h"
#include "binding/program_binding.h"
#include "binding/signals_binding.h"
#include "binding/views_binding.h"
#include "port/ring_port.h"
#include "worker_group.h"

namespace weir {
namespace {


class WorkerObject final : public Napi::ObjectWrap<WorkerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Worker",
                       {InstanceMethod("install", &WorkerObject::install), InstanceMethod("flows", &WorkerObject::flows),
                        InstanceMethod("describe", &WorkerObject::describe), InstanceMethod("counters", &WorkerObject::counters),
                        InstanceMethod("signals", &WorkerObject::signals), InstanceMethod("probes", &WorkerObject::probes),
                        InstanceMethod("begin", &WorkerObject::begin), InstanceMethod("rings", &WorkerObject::rings), InstanceMethod("pause", &WorkerObject::pause),
                        InstanceMethod("open", &WorkerObject::open), InstanceMethod("resume", &WorkerObject::resume), InstanceMethod("beats", &WorkerObject::beats),
                        InstanceMethod("show", &WorkerObject::show), InstanceMethod("stop", &WorkerObject::stop),
                        InstanceAccessor<&WorkerObject::finished>("finished")});
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
    program_ = error.empty() ? read_program(r.object("program"), error, &known_rules_) : nullptr;
    FlowFileUse use = read_flow_file(options, error);
    limits.file = use.file;
    tenants_ = std::move(use.tenants);
    const Napi::Value on_news = options.Get("onProbeNews");
    if (!on_news.IsUndefined() && !on_news.IsFunction()) r.fail("onProbeNews", "a function");
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    const bool taken_up = !r.null("rings");
    const Napi::Array rings = taken_up ? r.array("rings") : Napi::Array::New(env);
    workers_count_ = workers;
    std::vector<std::vector<std::shared_ptr<Port>>> ports(workers);
    for (uint32_t i = 0; i < names.Length(); i++) {
      const Napi::Value name = names.Get(i);
      interfaces_.push_back(name.IsString() ? name.As<Napi::String>().Utf8Value() : "");
      auto opened = open_ports(PortId(i), interfaces_.back(), taken_up ? &rings : nullptr);
      if (const std::string* reason = std::get_if<std::string>(&opened)) {
        Napi::Error::New(env, *reason).ThrowAsJavaScriptException();
        return;
      }
      for (uint32_t w = 0; w < workers; w++) ports[w].push_back(std::move(std::get<Ports>(opened)[w]));
    }
    limits.touched = true;
    workers_ = std::make_unique<WorkerGroup>(limits, std::move(ports));
    if (error = workers_->reserve(*program_); !error.empty()) {
      Napi::Error::New(env, error).ThrowAsJavaScriptException();
      return;
    }
    finished_.begin(env);
    if (on_news.IsFunction()) {
      on_probe_news_ = Napi::Persistent(on_news.As<Napi::Function>());
      workers_->on_probe_news([this] {
        finished_.call([this](Napi::Env) { on_probe_news_.Call({}); });
      });
    }
  }

 private:
  using Ports = std::vector<std::shared_ptr<Port>>;

  // One for each worker, null without an interface; or why not.
  std::variant<Ports, std::string> open_ports(PortId port, const std::string& interface, const Napi::Array* taken_up = nullptr) {
    Ports ports;
    RingOptions ring;
    ring.interface = interface;
    ring.stamped_only = program_->is_underlay_port(port);
    ring.fragments = ring.stamped_only && program_->underlays[program_->underlay_of(port)].fragment;
    ring.fanout = workers_count_ > 1;
    // A ring much larger than the processor's cache costs bulk traffic half its rate: every frame then comes from memory. A host
    // with many captures has less of a burst on each.
    ring.megabytes = std::max((ring.stamped_only || interfaces_.size() <= 9 ? 32 : 8) / workers_count_, 8u);
    for (uint32_t w = 0; w < workers_count_; w++) {
      if (interface.empty()) {
        ports.push_back(nullptr);
        continue;
      }
      auto opened = taken_up ? RingPort::adopt(ring, read_ring(*taken_up, w, port)) : RingPort::open(ring);
      if (const std::string* reason = std::get_if<std::string>(&opened)) return *reason;
      auto one = std::move(std::get<std::unique_ptr<RingPort>>(opened));
      ring.fanout_groups = one->fanout_groups();
      ports.push_back(std::move(one));
    }
    return ports;
  }

  Napi::Value open(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    constexpr uint32_t kMostPorts = 4096;
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsString() || info[0].As<Napi::Number>().Uint32Value() >= kMostPorts)
      return throw_type_error(env, "open: expected (port below 4096, interface)");
    const PortId port = PortId(info[0].As<Napi::Number>().Uint32Value());
    auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    if (over_) {
      deferred->Reject(Napi::Error::New(env, "the dataplane has stopped").Value());
      return deferred->Promise();
    }
    const std::string name = info[1].As<Napi::String>();
    auto opened = open_ports(port, name);
    if (const std::string* reason = std::get_if<std::string>(&opened)) {
      deferred->Reject(Napi::Error::New(env, *reason).Value());
      return deferred->Promise();
    }
    if (port >= interfaces_.size()) interfaces_.resize(port + 1u);
    interfaces_[port] = name;
    workers_->set_ports(port, std::move(std::get<Ports>(opened)), [this, deferred] {
      finished_.call([deferred](Napi::Env e) { deferred->Resolve(e.Undefined()); });
    });
    return deferred->Promise();
  }

  // Takes over the streams of the flow table's file, and starts. `heads`: where to go on in rings that were taken up.
  Napi::Value begin(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (started_) return throw_type_error(env, "begin: it has begun");
    if (info.Length() > 0 && info[0].IsArray())
      for_each_ring(info[0].As<Napi::Array>(), [](RingPort& ring, Napi::Value heads) {
        std::array<uint32_t, kRings> at{};
        for (uint32_t r = 0; heads.IsArray() && r < kRings; r++) at[r] = heads.As<Napi::Array>().Get(r).ToNumber().Uint32Value();
        ring.continue_at(at);
      });
    const uint64_t before = monotonic_ns();
    const Adoption adoption = workers_->adopt(program_, before, tenants_);
    const bool adopts = workers_->flows().file();
    const double milliseconds = double(monotonic_ns() - before) / 1e6;
    // The last moment at which somebody else can be told that it is his no longer; whoever can't be told goes on, and we do not.
    if (info.Length() > 1 && info[1].IsFunction() && !info[1].As<Napi::Function>().Call({}).ToBoolean()) {
      if (!env.IsExceptionPending()) Napi::Error::New(env, "the running weir goes on").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    started_ = true;
    finished_.listen(env, "weir worker");
    Ref();  // lives at least as long as its thread
    workers_->start(program_, on_end());
    return adopts ? Napi::Value(adoption_to_js(env, adoption, milliseconds)) : env.Null();
  }

  std::function<void(std::string)> on_end() {
    return [this](std::string reason) { finished_.call([this, reason = std::move(reason)](Napi::Env env) { ended(env, reason); }); };
  }

  static RingPortState read_ring(const Napi::Array& rings, uint32_t worker, uint32_t port) {
    RingPortState state;
    const Napi::Value row = rings.Get(worker);
    const Napi::Value value = row.IsArray() ? row.As<Napi::Array>().Get(port) : row.Env().Null();
    if (!value.IsObject()) return state;  // adopt() refuses it
    std::string error;
    Reader r(value.As<Napi::Object>(), "rings", error);
    state.bypass = r.boolean("bypass");
    state.refused = r.u32("refused");
    const Napi::Array list = r.array("rings");
    for (uint32_t i = 0; i < kRings && i < list.Length(); i++) {
      Reader ring = r.at(list, i, "rings");
      state.rings[i] = {int(ring.u32("descriptor", 0x7fffffff)), ring.u32("slotBytes"), ring.u32("slots"), ring.u32("head"), uint16_t(ring.u32("group", 0xffff))};
      if (!error.empty()) state.rings[i].slots = 0;
    }
    return state;
  }

  template <typename Work>
  void for_each_ring(const Napi::Array& rows, Work&& work) {
    for (uint32_t w = 0; w < workers_->size() && w < rows.Length(); w++) {
      if (!rows.Get(w).IsArray()) continue;
      const Napi::Array row = rows.Get(w).As<Napi::Array>();
      for (uint32_t i = 0; i < interfaces_.size() && i < row.Length(); i++)
        if (auto* ring = static_cast<RingPort*>(workers_->port(w, PortId(i)))) work(*ring, row.Get(i));
    }
  }

  // By worker and port: what another process needs to go on with the rings. Heads are right after pause().
  Napi::Value rings(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Array rows = Napi::Array::New(env, workers_->size());
    for (uint32_t w = 0; w < workers_->size(); w++) {
      Napi::Array row = Napi::Array::New(env, interfaces_.size());
      for (uint32_t i = 0; i < interfaces_.size(); i++) {
        const auto* ring = static_cast<RingPort*>(workers_->port(w, PortId(i)));
        row[i] = env.Null();
        if (!ring) continue;
        const RingPortState state = ring->state();
        Napi::Object o = Napi::Object::New(env);
        o["bypass"] = Napi::Boolean::New(env, state.bypass);
        o["refused"] = Napi::Number::New(env, state.refused);
        Napi::Array list = Napi::Array::New(env, kRings);
        for (uint32_t n = 0; n < kRings; n++) {
          Napi::Object one = Napi::Object::New(env);
          one["descriptor"] = Napi::Number::New(env, state.rings[n].descriptor);
          one["slotBytes"] = Napi::Number::New(env, state.rings[n].slot_bytes);
          one["slots"] = Napi::Number::New(env, state.rings[n].slots);
          one["head"] = Napi::Number::New(env, state.rings[n].head);
          one["group"] = Napi::Number::New(env, state.rings[n].group);
          list[n] = one;
        }
        o["rings"] = list;
        row[i] = o;
      }
      rows[w] = row;
    }
    return rows;
  }

  // Ends the threads, and keeps everything else for resume(). Resolves when no packet is in their hands any more.
  Napi::Value pause(const Napi::CallbackInfo& info) {
    pausing_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
    const Napi::Value promise = pausing_->Promise();
    if (over_ || !started_) {
      std::unique_ptr<Napi::Promise::Deferred> pausing = std::move(pausing_);
      pausing->Reject(Napi::Error::New(info.Env(), "the dataplane has stopped").Value());
    } else {
      workers_->stop();
    }
    return promise;
  }

  Napi::Value resume(const Napi::CallbackInfo& info) {
    workers_->resume(program_, monotonic_ns(), tenants_, on_end());
    return info.Env().Undefined();
  }

  // The thread has said its last word.
  void ended(Napi::Env env, const std::string& reason) {
    workers_->join();
    if (std::unique_ptr<Napi::Promise::Deferred> pausing = std::move(pausing_)) {
      if (reason.empty()) return pausing->Resolve(env.Undefined());
      pausing->Reject(Napi::Error::New(env, reason).Value());
    }
    over_ = true;
    finished_.settle(env, reason);
    Unref();
  }

  // Runs `work` on the thread and resolves with what `answer` makes of its result, here.
  template <typename Result>
  Napi::Value ask(Napi::Env env, std::function<Result(Engine&)> work, std::function<Napi::Value(Napi::Env, const Result&)> answer) {
    auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    const Napi::Value promise = deferred->Promise();
    if (over_ || !started_) {
      deferred->Reject(Napi::Error::New(env, "the dataplane has stopped").Value());
      return promise;
    }
    workers_->post([this, deferred, work = std::move(work), answer = std::move(answer)](Engine& engine) {
      auto result = std::make_shared<Result>(work(engine));
      finished_.call([deferred, result, answer](Napi::Env e) { deferred->Resolve(answer(e, *result)); });
    });
    return promise;
  }

  Napi::Value install(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsObject()) return throw_type_error(info.Env(), "install: expected a program");
    std::string error;
    auto program = read_program(info[0].As<Napi::Object>(), error, &known_rules_);
    if (!program) return throw_type_error(info.Env(), error);
    auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(info.Env()));
    if (over_) {
      deferred->Reject(Napi::Error::New(info.Env(), "the dataplane has stopped").Value());
      return deferred->Promise();
    }
    if (error = workers_->reserve(*program); !error.empty()) {
      deferred->Reject(Napi::Error::New(info.Env(), error).Value());
      return deferred->Promise();
    }
    program_ = program;
    workers_->install(std::move(program), [this, deferred] {
      finished_.call([this, deferred](Napi::Env env) {
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
    std::vector<WorkerView> threads;
    for (size_t i = 0; i < workers_->size(); i++) {
      const Worker& worker = *workers_->workers()[i];
      threads.push_back({&worker.counters(), workers_->worker_port_counters(i), worker.turns(), worker.cpu_ns(), &worker.group_latency(), &worker.transit_latency()});
    }
    return counters_to_js(info.Env(), workers_->counters(), {workers_->flow_capacity(), workers_->fragments_held()}, *program_, ports, threads);
  }

  // Turns of each thread: what stands still between two calls is stuck.
  Napi::Value beats(const Napi::CallbackInfo& info) {
    Napi::Array turns = Napi::Array::New(info.Env(), workers_->size());
    for (uint32_t i = 0; i < workers_->size(); i++) turns[i] = Napi::Number::New(info.Env(), double(workers_->workers()[i]->turns()));
    return turns;
  }

  Napi::Value show(const Napi::CallbackInfo& info) {
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsBoolean()) return throw_type_error(info.Env(), "show: expected (port, boolean)");
    const uint32_t port = info[0].As<Napi::Number>().Uint32Value();
    if (!over_ && port < interfaces_.size() && workers_->has_port(PortId(port))) workers_->show(PortId(port), info[1].As<Napi::Boolean>());
    return info.Env().Undefined();
  }

  Napi::Value signals(const Napi::CallbackInfo& info) { return signals_to_js(info.Env(), workers_->counters(), *program_); }
  Napi::Value probes(const Napi::CallbackInfo& info) { return probes_to_js(info.Env(), workers_->probe_rows()); }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_.promise(); }

  Napi::Value stop(const Napi::CallbackInfo& info) {
    if (!started_ && !over_) {
      over_ = true;
      finished_.settle(info.Env(), "");
    }
    workers_->stop();
    return finished_.promise();
  }

  std::shared_ptr<const Program> program_;  // the last one installed, for naming ids
  std::vector<std::string> interfaces_;
  uint32_t workers_count_ = 1;
  KnownRules known_rules_;
  Napi::FunctionReference on_probe_news_;
  std::unique_ptr<WorkerGroup> workers_;
  Completion finished_;
  std::unique_ptr<Napi::Promise::Deferred> pausing_;
  std::vector<uint32_t> tenants_;  // of captures whose streams may be adopted
  bool started_ = false, over_ = false;
};

}  // namespace

void register_worker(Napi::Env env, Napi::Object exports) { exports["Worker"] = WorkerObject::define(env); }

}  // namespace weir
