// What the host grants and is told: features of the kernel, offloads of an interface, the service manager's socket.
#include <cstring>

#include "binding/binding.h"
#include "binding/convert.h"
#include "host/notify.h"
#include "host/probe.h"

namespace weir {
namespace {

Napi::Value probe_kernel_js(const Napi::CallbackInfo& info) {
  Napi::Object o = Napi::Object::New(info.Env());
  for (const Probe& probe : probe_kernel())
    o[probe.feature] = probe.error ? Napi::Value(Napi::String::New(info.Env(), std::strerror(probe.error))) : Napi::Value(info.Env().Null());
  return o;
}

Napi::Value interface_offloads_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) return throw_type_error(env, "interfaceOffloads: expected a name");
  const auto found = interface_offloads(info[0].As<Napi::String>());
  if (!found) return env.Null();
  Napi::Object o = Napi::Object::New(env);
  o["rxChecksum"] = Napi::Boolean::New(env, found->rx_checksum);
  o["txChecksum"] = Napi::Boolean::New(env, found->tx_checksum);
  o["tso"] = Napi::Boolean::New(env, found->tso);
  o["gso"] = Napi::Boolean::New(env, found->gso);
  o["gro"] = Napi::Boolean::New(env, found->gro);
  o["lro"] = Napi::Boolean::New(env, found->lro);
  return o;
}

Napi::Value notify_js(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsString()) return throw_type_error(env, "notify: expected (socket, message)");
  const int error = notify(info[0].As<Napi::String>(), info[1].As<Napi::String>());
  return error ? Napi::Value(Napi::String::New(env, std::strerror(error))) : Napi::Value(env.Null());
}

}  // namespace

void register_host(Napi::Env env, Napi::Object exports) {
  exports["probeKernel"] = Napi::Function::New(env, probe_kernel_js, "probeKernel");
  exports["interfaceOffloads"] = Napi::Function::New(env, interface_offloads_js, "interfaceOffloads");
  exports["notify"] = Napi::Function::New(env, notify_js, "notify");
}

}  // namespace weir
