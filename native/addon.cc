// The addon: what JavaScript can call. Each binding file checks its arguments and owns nothing else.
#include "binding/binding.h"

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  weir::register_engine(env, exports);
  weir::register_worker(env, exports);
  weir::register_node(env, exports);
  weir::register_mesh(env, exports);
  weir::register_function(env, exports);
  weir::register_deliver_node(env, exports);
  weir::register_netlink(env, exports);
  weir::register_flow_file(env, exports);
  weir::register_channel(env, exports);
  weir::register_peer(env, exports);
  weir::register_replay(env, exports);
  weir::register_capture(env, exports);
  weir::register_host(env, exports);
  return exports;
}

NODE_API_MODULE(weir, initialize)
