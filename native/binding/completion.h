// The end of a native thread as a promise, and the way from that thread to JavaScript's.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace weir {

class Completion {
 public:
  void begin(Napi::Env env) {
    deferred_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
    promise_ = Napi::Persistent(Napi::Object(env, deferred_->Promise()));
  }

  // Before the thread starts. `name`: of the resource, as Node's diagnostics show it. The process goes on until settle().
  void listen(Napi::Env env, const char* name) {
    calls_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), name, 0, 1);
    listens_ = true;
  }

  // Runs `work` on JavaScript's thread. From any thread, between listen() and settle().
  void call(std::function<void(Napi::Env)> work) {
    using Work = std::function<void(Napi::Env)>;
    calls_.BlockingCall(new Work(std::move(work)), [](Napi::Env env, Napi::Function, Work* w) {
      (*w)(env);
      delete w;
    });
  }

  // Fulfils the promise, or rejects it with a reason. On JavaScript's thread.
  void settle(Napi::Env env, const std::string& reason) {
    if (reason.empty()) {
      deferred_->Resolve(env.Undefined());
    } else {
      deferred_->Reject(Napi::Error::New(env, reason).Value());
    }
    if (listens_) calls_.Release();
    listens_ = false;
  }

  Napi::Value promise() { return promise_.Value(); }

 private:
  Napi::ThreadSafeFunction calls_;
  std::unique_ptr<Napi::Promise::Deferred> deferred_;
  Napi::ObjectReference promise_;
  bool listens_ = false;
};

}  // namespace weir
