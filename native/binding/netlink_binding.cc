// What the host knows and holds: interfaces, routes, neighbours, UDP ports.
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "binding/binding.h"
#include "binding/convert.h"
#include "netlink.h"
#include "port/udp_sink.h"

namespace weir {
namespace {

Napi::Value interface_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) return throw_type_error(env, "interfaceInfo: expected a name");
  const auto found = netlink::interface_by_name(info[0].As<Napi::String>());
  if (!found) return env.Null();
  Napi::Object o = Napi::Object::New(env);
  o["index"] = Napi::Number::New(env, found->index);
  o["name"] = Napi::String::New(env, found->name);
  o["mac"] = Napi::String::New(env, format_mac(found->mac));
  o["mtu"] = Napi::Number::New(env, found->mtu);
  o["up"] = Napi::Boolean::New(env, found->up);
  o["carrier"] = Napi::Boolean::New(env, found->carrier);
  o["loopback"] = Napi::Boolean::New(env, found->loopback);
  Napi::Array ipv4 = Napi::Array::New(env), ipv6 = Napi::Array::New(env);
  for (const Address& a : found->addresses) {
    Napi::Array& list = a.is_ipv4() ? ipv4 : ipv6;
    list[list.Length()] = Napi::String::New(env, format_address(a));
  }
  o["ipv4"] = ipv4;
  o["ipv6"] = ipv6;
  return o;
}

Napi::Value route_to(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto address = info.Length() > 0 && info[0].IsString() ? parse_address(info[0].As<Napi::String>()) : std::nullopt;
  if (!address) return throw_type_error(env, "routeTo: expected an IP address");
  const auto route = netlink::route_to(*address, info.Length() > 1 && info[1].IsNumber() ? info[1].As<Napi::Number>().Uint32Value() : 0);
  if (!route) return env.Null();
  Napi::Object o = Napi::Object::New(env);
  o["interfaceIndex"] = Napi::Number::New(env, route->interface_index);
  char name[IF_NAMESIZE] = {};
  if_indextoname(route->interface_index, name);
  o["interface"] = Napi::String::New(env, name);
  o["nextHop"] = Napi::String::New(env, format_address(route->next_hop));
  o["source"] = route->source ? Napi::Value(Napi::String::New(env, format_address(*route->source))) : Napi::Value(env.Null());
  o["mtu"] = route->mtu ? Napi::Value(Napi::Number::New(env, route->mtu)) : Napi::Value(env.Null());
  return o;
}

Napi::Value solicit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto address = info.Length() > 1 && info[0].IsString() ? parse_address(info[0].As<Napi::String>()) : std::nullopt;
  if (!address || !(info[1].IsString() || info[1].IsNull())) return throw_type_error(env, "solicit: expected (IP address, interface or null)");
  netlink::solicit(*address, info[1].IsNull() ? std::string() : std::string(info[1].As<Napi::String>()));
  return env.Undefined();
}

Napi::Value neighbour(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto address = info.Length() > 1 && info[1].IsString() ? parse_address(info[1].As<Napi::String>()) : std::nullopt;
  if (!address || !info[0].IsNumber()) return throw_type_error(env, "neighbour: expected (interface index, IP address)");
  const auto mac = netlink::neighbour(info[0].As<Napi::Number>().Uint32Value(), *address);
  return mac ? Napi::Value(Napi::String::New(env, format_mac(*mac))) : Napi::Value(env.Null());
}

// Gives a function that lets go, or throws an Error with `code` as Node's own have it.
Napi::Value hold_udp_port(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto address = info.Length() > 1 && info[0].IsString() ? parse_address(info[0].As<Napi::String>()) : std::nullopt;
  if (!address || !info[1].IsNumber()) return throw_type_error(env, "holdUdpPort: expected (IP address, port)");
  const bool given = info.Length() > 2 && info[2].IsNumber();
  std::variant<UdpSink, int> held = given ? UdpSink::adopt(info[2].As<Napi::Number>().Int32Value())
                                          : UdpSink::hold(*address, uint16_t(info[1].As<Napi::Number>().Uint32Value()));
  if (const int* error = std::get_if<int>(&held)) {
    Napi::Error e = Napi::Error::New(env, std::strerror(*error));
    e.Set("code", Napi::String::New(env, *error == EADDRINUSE ? "EADDRINUSE" : *error == EADDRNOTAVAIL ? "EADDRNOTAVAIL" : "EIO"));
    e.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto sink = std::make_shared<std::unique_ptr<UdpSink>>(std::make_unique<UdpSink>(std::move(std::get<UdpSink>(held))));
  Napi::Function let_go = Napi::Function::New(env, [sink](const Napi::CallbackInfo&) { sink->reset(); });
  let_go.Set("descriptor", Napi::Number::New(env, (*sink)->descriptor()));
  return let_go;
}

}  // namespace

void register_netlink(Napi::Env env, Napi::Object exports) {
  exports["interfaceInfo"] = Napi::Function::New(env, interface_info, "interfaceInfo");
  exports["routeTo"] = Napi::Function::New(env, route_to, "routeTo");
  exports["solicit"] = Napi::Function::New(env, solicit, "solicit");
  exports["holdUdpPort"] = Napi::Function::New(env, hold_udp_port, "holdUdpPort");
  exports["neighbour"] = Napi::Function::New(env, neighbour, "neighbour");
}

}  // namespace weir
