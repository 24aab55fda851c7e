// A service instance for JavaScript: its packets come in batches, its verdicts go back in arrays.
#include <algorithm>
#include <functional>
#include <memory>

#include "binding/binding.h"
#include "binding/convert.h"
#include "binding/views_binding.h"
#include "node/service_node.h"
#include "port/ring_port.h"

namespace weir {
namespace {

constexpr int kMostBatches = 64;  // under way to JavaScript; what comes beyond that is dropped and counted
constexpr uint32_t kLongestDatagram = 65000;  // what the node sends back at most

class NodeObject final : public Napi::ObjectWrap<NodeObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Node", {InstanceMethod("counters", &NodeObject::counters), InstanceMethod("stop", &NodeObject::stop),
                                     InstanceAccessor<&NodeObject::finished>("finished")});
  }

  explicit NodeObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "Node: expected options {interface, address, onBatch}");
      return;
    }
    std::string error;
    Reader r(info[0].As<Napi::Object>(), "options", error);
    interface_ = r.string("interface");
    const Address address = r.address("address");
    const Napi::Value on_batch = info[0].As<Napi::Object>().Get("onBatch");
    if (!on_batch.IsNull() && !on_batch.IsFunction()) r.fail("onBatch", "a function or null");
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    RingOptions ring;
    ring.interface = interface_;
    ring.stamped_only = true;
    auto opened = RingPort::open(ring);
    if (const std::string* reason = std::get_if<std::string>(&opened)) {
      Napi::Error::New(env, *reason).ThrowAsJavaScriptException();
      return;
    }
    calls_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "weir node", 0, 1);
    finished_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    finished_promise_ = Napi::Persistent(Napi::Object(env, finished_->Promise()));
    ServiceNode::Deliver deliver;
    if (on_batch.IsFunction()) {
      on_batch_ = Napi::Persistent(on_batch.As<Napi::Function>());
      deliver = [this](std::shared_ptr<NodeBatch> batch) { return hand_on(std::move(batch)); };
    }
    node_ = std::make_unique<ServiceNode>(std::move(std::get<std::unique_ptr<RingPort>>(opened)), address, std::move(deliver));
    Ref();
    node_->start([this](std::string reason) {
      call([this, reason = std::move(reason)](Napi::Env e) { ended(e, reason); });
    });
  }

 private:
  void call(std::function<void(Napi::Env)> work) {
    using Work = std::function<void(Napi::Env)>;
    calls_.BlockingCall(new Work(std::move(work)), [](Napi::Env env, Napi::Function, Work* w) {
      (*w)(env);
      delete w;
    });
  }

  bool hand_on(std::shared_ptr<NodeBatch> batch) {
    if (under_way_.load(std::memory_order_relaxed) >= kMostBatches) return false;
    under_way_.fetch_add(1, std::memory_order_relaxed);
    call([this, batch = std::move(batch)](Napi::Env env) {
      node_->verdicts(batch, ask(env, *batch));
      under_way_.fetch_sub(1, std::memory_order_relaxed);
    });
    return true;
  }

  // Runs the function over a batch. A packet without a verdict that makes sense is an error, those beside it get theirs.
  std::vector<NodeVerdict> ask(Napi::Env env, const NodeBatch& batch) {
    Napi::HandleScope scope(env);
    Napi::Array packets = Napi::Array::New(env, batch.packets.size());
    Napi::Buffer<uint8_t> bytes = Napi::Buffer<uint8_t>::Copy(env, batch.bytes.data(), batch.bytes.size());
    for (uint32_t i = 0; i < batch.packets.size(); i++) {
      const NodePacket& p = batch.packets[i];
      Napi::Object o = Napi::Object::New(env);
      o["bytes"] = Napi::Uint8Array::New(env, p.length, bytes.ArrayBuffer(), bytes.ByteOffset() + p.at);
      o["encapsulation"] = Napi::String::New(env, p.view.encapsulation == Encapsulation::nsh ? "nsh" : "geneve");
      o["code"] = Napi::Number::New(env, p.view.code);
      o["spi"] = Napi::Number::New(env, p.view.spi);
      o["si"] = Napi::Number::New(env, p.view.si);
      packets[i] = o;
    }
    std::vector<NodeVerdict> verdicts(batch.packets.size(), {NodeVerdict::Kind::error, {}});
    const Napi::Value answer = on_batch_.Call({packets});
    if (threw(env) || !answer.IsArray()) return verdicts;
    const Napi::Array array = answer.As<Napi::Array>();
    for (uint32_t i = 0; i < verdicts.size() && i < array.Length(); i++) {
      Napi::HandleScope one(env);
      const Napi::Value v = array.Get(i);
      if (!threw(env)) read(v, kLongestDatagram - std::min(batch.packets[i].outer_length, kLongestDatagram), verdicts[i]);
    }
    return verdicts;
  }

  // An exception left pending would fail every call after it, and end the process.
  static bool threw(Napi::Env env) {
    if (!env.IsExceptionPending()) return false;
    env.GetAndClearPendingException();
    return true;
  }

  // True forward, false drop, 1 to `longest` bytes a replacement. Leaves the verdict as it is on anything else.
  static void read(const Napi::Value& v, size_t longest, NodeVerdict& verdict) {
    if (v.IsBoolean()) {
      verdict.kind = v.As<Napi::Boolean>() ? NodeVerdict::Kind::forward : NodeVerdict::Kind::drop;
    } else if (v.IsTypedArray() && v.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
      const auto replacement = v.As<Napi::Uint8Array>();
      if (replacement.ElementLength() < 1 || replacement.ElementLength() > longest) return;
      verdict.kind = NodeVerdict::Kind::replace;
      verdict.replacement.assign(replacement.Data(), replacement.Data() + replacement.ElementLength());
    }
  }

  void ended(Napi::Env env, const std::string& reason) {
    node_->join();
    if (reason.empty()) {
      finished_->Resolve(env.Undefined());
    } else {
      finished_->Reject(Napi::Error::New(env, reason).Value());
    }
    calls_.Release();
    Unref();
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const NodeCounters& c = node_->counters();
    auto traffic = [&](const Traffic& t) {
      Napi::Object o = Napi::Object::New(env);
      o["packets"] = Napi::Number::New(env, double(t.packets.get()));
      o["bytes"] = Napi::Number::New(env, double(t.bytes.get()));
      return o;
    };
    Napi::Object o = Napi::Object::New(env), dropped = Napi::Object::New(env);
    o["received"] = traffic(c.received);
    o["returned"] = traffic(c.returned);
    for (size_t i = 0; i < size_t(NodeDrop::count_); i++) dropped[kNodeDropNames[i]] = Napi::Number::New(env, double(c.dropped[i].get()));
    o["dropped"] = dropped;
    o["port"] = port_to_js(env, {0, interface_, node_->port().counters()});
    return o;
  }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_promise_.Value(); }
  Napi::Value stop(const Napi::CallbackInfo&) {
    node_->stop();
    return finished_promise_.Value();
  }

  std::string interface_;
  Napi::FunctionReference on_batch_;
  Napi::ThreadSafeFunction calls_;
  std::atomic<int> under_way_{0};
  std::unique_ptr<Napi::Promise::Deferred> finished_;
  Napi::ObjectReference finished_promise_;
  std::unique_ptr<ServiceNode> node_;
};

}  // namespace

void register_node(Napi::Env env, Napi::Object exports) { exports["Node"] = NodeObject::define(env); }

}  // namespace weir
