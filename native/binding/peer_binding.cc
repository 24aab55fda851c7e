// Who is at the other end of a Unix socket. Node has no call for it: net.Socket tells addresses only, and nothing in Node reads
// a socket option by number.
#include <sys/socket.h>

#include <cerrno>
#include <vector>

#include "binding/binding.h"
#include "binding/convert.h"

namespace weir {
namespace {

// Supplementary groups, unix(7); none where the kernel has no such option (before 4.13).
std::vector<gid_t> peer_groups(int descriptor) {
  constexpr int kPeerGroups = 59;  // SO_PEERGROUPS
  std::vector<gid_t> groups(64);
  socklen_t size = socklen_t(groups.size() * sizeof(gid_t));
  if (getsockopt(descriptor, SOL_SOCKET, kPeerGroups, groups.data(), &size) != 0) {
    if (errno != ERANGE) return {};
    groups.resize(size / sizeof(gid_t));  // the kernel says how much room it wants
    if (getsockopt(descriptor, SOL_SOCKET, kPeerGroups, groups.data(), &size) != 0) return {};
  }
  groups.resize(size / sizeof(gid_t));
  return groups;
}

Napi::Value peer_credentials(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsNumber()) return throw_type_error(env, "peerCredentials: expected a file descriptor");
  ucred who{};
  socklen_t size = sizeof who;
  // unix(7): as they were at connect(), so neither a later setuid nor a reused pid can change them. A socket of another family
  // answers too, with no pid and all ones.
  const int descriptor = info[0].As<Napi::Number>().Int32Value();
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return env.Null();
  if (size != sizeof who || who.uid == uid_t(-1)) return env.Null();
  Napi::Object o = Napi::Object::New(env);
  o["pid"] = Napi::Number::New(env, who.pid);
  o["uid"] = Napi::Number::New(env, who.uid);
  o["gid"] = Napi::Number::New(env, who.gid);
  const std::vector<gid_t> groups = peer_groups(descriptor);
  Napi::Array list = Napi::Array::New(env, groups.size());
  for (uint32_t i = 0; i < groups.size(); i++) list[i] = Napi::Number::New(env, groups[i]);
  o["groups"] = list;
  return o;
}

}  // namespace

void register_peer(Napi::Env env, Napi::Object exports) {
  exports["peerCredentials"] = Napi::Function::New(env, peer_credentials, "peerCredentials");
}

}  // namespace weir
