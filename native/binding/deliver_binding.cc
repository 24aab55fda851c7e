// An instance that ends a chain, for JavaScript: no packet comes here.
#include <memory>

#include "binding/binding.h"
#include "binding/completion.h"
#include "binding/convert.h"
#include "binding/fragments_view.h"
#include "binding/views_binding.h"
#include "node/deliver_node.h"
#include "port/ring_port.h"

namespace weir {
namespace {

class DeliverNodeObject final : public Napi::ObjectWrap<DeliverNodeObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "DeliverNode", {InstanceMethod("counters", &DeliverNodeObject::counters), InstanceMethod("stop", &DeliverNodeObject::stop),
                                            InstanceAccessor<&DeliverNodeObject::finished>("finished")});
  }

  explicit DeliverNodeObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "DeliverNode: expected options {interface, address, to, fromMac, toMac}");
      return;
    }
    std::string error;
    Reader r(info[0].As<Napi::Object>(), "options", error);
    RingOptions ring;
    ring.interface = interface_ = r.string("interface");
    ring.stamped_only = ring.fragments = true;
    const Address address = r.address("address");
    const std::string to = r.string("to");
    const Mac from_mac = r.mac("fromMac"), to_mac = r.mac("toMac");
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    auto port = RingPort::open(ring);
    auto sender = FrameSender::open(to);
    for (const std::string* reason : {std::get_if<std::string>(&port), std::get_if<std::string>(&sender)}) {
      if (!reason) continue;
      Napi::Error::New(env, *reason).ThrowAsJavaScriptException();
      return;
    }
    finished_.begin(env);
    finished_.listen(env, "weir node");
    node_ = std::make_unique<DeliverNode>(std::move(std::get<std::unique_ptr<RingPort>>(port)), address, std::move(std::get<std::unique_ptr<FrameSender>>(sender)), from_mac, to_mac);
    Ref();
    node_->start([this](std::string reason) {
      finished_.call([this, reason = std::move(reason)](Napi::Env e) { ended(e, reason); });
    });
  }

 private:
  void ended(Napi::Env env, const std::string& reason) {
    node_->join();
    finished_.settle(env, reason);
    Unref();
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const DeliverCounters& c = node_->counters();
    auto number = [&](uint64_t n) { return Napi::Number::New(env, double(n)); };
    Napi::Object o = Napi::Object::New(env), dropped = Napi::Object::New(env);
    o["received"] = traffic_to_js(env, c.received);
    o["delivered"] = traffic_to_js(env, c.delivered);
    o["probes"] = number(c.probes.get());
    for (size_t i = 0; i < size_t(DeliverDrop::count_); i++) dropped[kDeliverDropNames[i]] = number(c.dropped[i].get());
    dropped["not_sent"] = number(node_->sender().errors().get());
    o["dropped"] = dropped;
    o["fragments"] = fragments_to_js(env, node_->fragments());
    o["port"] = port_to_js(env, {0, interface_, node_->port().counters()});
    return o;
  }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_.promise(); }
  Napi::Value stop(const Napi::CallbackInfo&) {
    node_->stop();
    return finished_.promise();
  }

  std::string interface_;
  Completion finished_;
  std::unique_ptr<DeliverNode> node_;
};

}  // namespace

void register_deliver_node(Napi::Env env, Napi::Object exports) { exports["DeliverNode"] = DeliverNodeObject::define(env); }

}  // namespace weir
