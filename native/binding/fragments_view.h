// A node's counters of fragments as a JavaScript object; the same fields as `fragments` of a pipeline's counters.
#pragma once
#include <napi.h>

#include "node/fragment_port.h"

namespace weir {

inline Napi::Object fragments_to_js(Napi::Env env, const FragmentCounters& c) {
  Napi::Object o = Napi::Object::New(env);
  o["datagramsSent"] = Napi::Number::New(env, double(c.fragmented.get()));
  o["sent"] = Napi::Number::New(env, double(c.sent.get()));
  o["received"] = Napi::Number::New(env, double(c.received.get()));
  o["datagramsReceived"] = Napi::Number::New(env, double(c.reassembled.get()));
  return o;
}

}  // namespace weir
