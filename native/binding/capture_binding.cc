// A live capture on a thread of its own, behind promises.
#include <memory>

#include "binding/binding.h"
#include "binding/completion.h"
#include "binding/convert.h"
#include "capture/live_capture.h"

namespace weir {
namespace {

class CaptureObject final : public Napi::ObjectWrap<CaptureObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Capture", {InstanceMethod("counters", &CaptureObject::counters), InstanceMethod("stop", &CaptureObject::stop),
                                        InstanceAccessor<&CaptureObject::finished>("finished")});
  }

  explicit CaptureObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      throw_type_error(env, "Capture: expected options");
      return;
    }
    std::string error;
    Reader r(info[0].As<Napi::Object>(), "options", error);
    LiveCaptureOptions options;
    options.interface = r.string("interface");
    const Napi::Array addresses = r.array("addresses");
    for (uint32_t i = 0; i < addresses.Length(); i++) {
      const Napi::Value v = addresses.Get(i);
      const auto address = v.IsString() ? parse_address(v.As<Napi::String>()) : std::nullopt;
      if (!address) r.fail("addresses", "IP addresses");
      options.addresses.push_back(address ? format_address(*address) : "");
    }
    if (options.addresses.empty()) r.fail("addresses", "at least one IP address");
    options.direction = static_cast<LiveCaptureOptions::Direction>(r.choice("direction", {"both", "to", "from"}));
    options.filter = r.string("filter");
    options.inner_filter = r.string("innerFilter");
    options.inner = r.boolean("inner");
    options.whole = r.boolean("whole");
    options.write = r.string("write");
    options.snaplen = uint32_t(r.number("snaplen", 64, 262144));
    options.count = uint64_t(r.number("count", 0, 9007199254740991));
    options.megabytes = uint32_t(r.number("megabytes", 2, 1024));
    if (!error.empty()) {
      throw_type_error(env, error);
      return;
    }
    capture_ = std::make_unique<LiveCapture>();
    if (std::string failed = capture_->open(options); !failed.empty()) {
      Napi::Error::New(env, failed).ThrowAsJavaScriptException();
      return;
    }
    finished_.begin(env);
    finished_.listen(env, "weir capture");
    Ref();  // lives at least as long as its thread
    capture_->start([this](std::string reason) {
      finished_.call([this, reason = std::move(reason)](Napi::Env e) { ended(e, reason); });
    });
  }

 private:
  void ended(Napi::Env env, const std::string& reason) {
    capture_->join();
    finished_.settle(env, reason);
    Unref();
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const LiveCaptureCounters& c = capture_->counters();
    Napi::Object o = Napi::Object::New(env);
    const std::pair<const char*, uint64_t> rows[] = {{"frames", c.frames.get()},     {"packets", c.packets.get()}, {"bytes", c.bytes.get()},
                                                     {"filtered", c.filtered.get()}, {"unread", c.unread.get()},   {"dropped", capture_->dropped()}};
    for (const auto& [name, count] : rows) o[name] = Napi::Number::New(env, double(count));
    return o;
  }

  Napi::Value finished(const Napi::CallbackInfo&) { return finished_.promise(); }
  Napi::Value stop(const Napi::CallbackInfo&) {
    capture_->stop();
    return finished_.promise();
  }

  std::unique_ptr<LiveCapture> capture_;
  Completion finished_;
};

}  // namespace

void register_capture(Napi::Env env, Napi::Object exports) { exports["Capture"] = CaptureObject::define(env); }

}  // namespace weir
