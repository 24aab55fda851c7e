// The function's side of a node's queue, for the thread that runs the function: slabs as memory, taken and given back.
#include <memory>

#include "binding/binding.h"
#include "binding/convert.h"
#include "binding/node_handles.h"
#include "node/function_queue.h"

namespace weir {
namespace {

class FunctionLink final : public Napi::ObjectWrap<FunctionLink> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "FunctionLink", {InstanceMethod("take", &FunctionLink::take), InstanceMethod("give", &FunctionLink::give), InstanceMethod("hold", &FunctionLink::hold),
                                             InstanceMethod("close", &FunctionLink::close), InstanceAccessor<&FunctionLink::slabs>("slabs")});
  }

  explicit FunctionLink(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsFunction()) {
      throw_type_error(env, "FunctionLink: expected a node's handle and a function");
      return;
    }
    handle_ = info[0].As<Napi::Number>().Uint32Value();
    // Not Napi::ThreadSafeFunction: that ends the process when the call fails because the thread is being ended.
    if (napi_create_threadsafe_function(env, info[1], nullptr, Napi::String::New(env, "weir function"), 0, 1, nullptr, nullptr, nullptr, call, &calls_) != napi_ok) {
      throw_type_error(env, "FunctionLink: can't be called from other threads");
      return;
    }
    queue_open_ = true;
    const bool known = NodeHandles::instance().with(handle_, [&](ServiceNode& node) {
      queue_ = std::make_shared<FunctionQueue>([calls = calls_] { napi_call_threadsafe_function(calls, nullptr, napi_tsfn_nonblocking); }, [wake = node.wake()] { wake->now(); });
      node.attach(queue_);
    });
    if (!known) {
      napi_release_threadsafe_function(calls_, napi_tsfn_release);
      throw_type_error(env, "FunctionLink: there is no node with this handle");
      return;
    }
    // Runs before the environment takes its thread-safe functions down: hooks run in reverse order.
    Napi::Env(env).AddCleanupHook([queue = queue_, handle = handle_] { let_go(queue, handle); });
    slabs_ = Napi::Persistent(Napi::Object(env, make_slabs(env)));
  }

  ~FunctionLink() override {
    if (queue_) let_go(queue_, handle_);
  }

 private:
  static void call(napi_env env, napi_value function, void*, void*) {
    napi_value self, error;
    if (!env || !function || napi_get_undefined(env, &self) != napi_ok) return;
    if (napi_call_function(env, self, function, 0, nullptr, nullptr) != napi_ok) napi_get_and_clear_last_exception(env, &error);
  }

  static void let_go(const std::shared_ptr<FunctionQueue>& queue, uint32_t handle) {
    queue->close();
    NodeHandles::instance().with(handle, [&](ServiceNode& node) { node.detach(queue.get()); });
  }

  Napi::Array make_slabs(Napi::Env env) {
    Napi::Array slabs = Napi::Array::New(env, FunctionQueue::kSlabs);
    for (uint32_t i = 0; i < FunctionQueue::kSlabs; i++) {
      // The memory lasts as long as anybody looks at it.
      auto* owner = new std::shared_ptr<FunctionQueue>(queue_);
      slabs[i] = Napi::ArrayBuffer::New(env, queue_->slab(i).memory(), Slab::kMemory, [](Napi::Env, void*, std::shared_ptr<FunctionQueue>* held) { delete held; }, owner);
    }
    return slabs;
  }

  // [slab << 16 | packets] of the next slab, or -1.
  Napi::Value take(const Napi::CallbackInfo& info) {
    const int slab = queue_->take();
    if (slab < 0) return Napi::Number::New(info.Env(), -1);
    return Napi::Number::New(info.Env(), double(uint32_t(slab) << 16 | uint32_t(queue_->slab(uint32_t(slab)).packets().size())));
  }

  Napi::Value hold(const Napi::CallbackInfo& info) {
    queue_->hold();
    return info.Env().Undefined();
  }

  // give(slab, replacements?): [index, bytes, index, bytes, …]. What makes no sense is left out: its packet has no answer then.
  Napi::Value give(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const uint32_t number = info.Length() > 0 && info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : FunctionQueue::kSlabs;
    Slab* slab = queue_->in_hand(number);
    if (!slab) return env.Undefined();
    if (info.Length() > 1 && info[1].IsArray()) {
      const Napi::Array array = info[1].As<Napi::Array>();
      for (uint32_t i = 0; i + 1 < array.Length(); i += 2) {
        Napi::HandleScope scope(env);
        const Napi::Value index = array.Get(i), value = array.Get(i + 1);
        if (threw(env) || !index.IsNumber() || !value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) continue;
        const uint32_t packet = index.As<Napi::Number>().Uint32Value();
        if (packet >= slab->packets().size()) continue;
        const auto bytes = value.As<Napi::Uint8Array>();
        const FunctionPacket& p = slab->packets()[packet];
        if (p.new_length || bytes.ElementLength() < 1 || bytes.ElementLength() + p.outer_length > kLongestDatagram) continue;
        slab->replace(packet, {bytes.Data(), bytes.ElementLength()});
      }
    }
    queue_->give(number);
    return env.Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    let_go(queue_, handle_);
    if (queue_open_) napi_release_threadsafe_function(calls_, napi_tsfn_release);
    queue_open_ = false;
    return info.Env().Undefined();
  }

  Napi::Value slabs(const Napi::CallbackInfo&) { return slabs_.Value(); }

  // An exception left pending would fail every call after it, and end the process.
  static bool threw(Napi::Env env) {
    if (!env.IsExceptionPending()) return false;
    env.GetAndClearPendingException();
    return true;
  }

  uint32_t handle_ = 0;
  bool queue_open_ = false;
  napi_threadsafe_function calls_ = nullptr;
  std::shared_ptr<FunctionQueue> queue_;
  Napi::ObjectReference slabs_;
};

}  // namespace

void register_function(Napi::Env env, Napi::Object exports) {
  exports["FunctionLink"] = FunctionLink::define(env);
  Napi::Object layout = Napi::Object::New(env);
  layout["packets"] = Napi::Number::New(env, Slab::kMostPackets);
  layout["verdictsAt"] = Napi::Number::New(env, Slab::kVerdictsAt);
  exports["slabLayout"] = layout;
}

}  // namespace weir
