// What each binding file contributes to the addon's exports; addon.cc calls them all.
#pragma once
#include <napi.h>

namespace weir {

void register_engine(Napi::Env env, Napi::Object exports);
void register_worker(Napi::Env env, Napi::Object exports);
void register_replay(Napi::Env env, Napi::Object exports);
void register_node(Napi::Env env, Napi::Object exports);
void register_mesh(Napi::Env env, Napi::Object exports);
void register_function(Napi::Env env, Napi::Object exports);
void register_deliver_node(Napi::Env env, Napi::Object exports);
void register_netlink(Napi::Env env, Napi::Object exports);
void register_flow_file(Napi::Env env, Napi::Object exports);
void register_channel(Napi::Env env, Napi::Object exports);
void register_capture(Napi::Env env, Napi::Object exports);
void register_host(Napi::Env env, Napi::Object exports);
void register_peer(Napi::Env env, Napi::Object exports);

}  // namespace weir
