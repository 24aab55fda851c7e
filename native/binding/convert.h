// Typed reading of JavaScript objects: every getter names the field it failed on. Used with C++ exceptions disabled, so a
// failure is remembered in the Reader and checked once at the end.
#pragma once
#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/address.h"

namespace weir {

std::optional<Address> parse_address(const std::string& text);
std::optional<Mac> parse_mac(const std::string& text);
std::string format_address(const Address& address);
std::string format_mac(const Mac& mac);

class Reader {
 public:
  Reader(Napi::Object object, std::string where, std::string& error) : object_(object), where_(std::move(where)), error_(error) {}

  double number(const char* key, double low, double high) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsNumber()) return fail(key, "a number"), low;
    const double n = v.As<Napi::Number>().DoubleValue();
    if (!(n >= low && n <= high)) return fail(key, "a number from " + text(low) + " to " + text(high)), low;
    return n;
  }
  uint32_t u32(const char* key, uint32_t high = 0xffffffff) { return uint32_t(number(key, 0, high)); }
  bool boolean(const char* key) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsBoolean()) return fail(key, "true or false"), false;
    return v.As<Napi::Boolean>();
  }
  std::string string(const char* key) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsString()) return fail(key, "a string"), "";
    return v.As<Napi::String>();
  }
  bool null(const char* key) {
    const Napi::Value v = object_.Get(key);
    return v.IsNull() || v.IsUndefined();
  }
  // Index of the string among the choices.
  template <size_t N>
  uint32_t choice(const char* key, const char* const (&choices)[N]) {
    const std::string v = string(key);
    for (uint32_t i = 0; i < N; i++)
      if (v == choices[i]) return i;
    std::string expected;
    for (const char* c : choices) expected += (expected.empty() ? "" : " or ") + std::string(c);
    fail(key, expected);
    return 0;
  }
  Napi::Array array(const char* key) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsArray()) return fail(key, "an array"), Napi::Array::New(object_.Env());
    return v.As<Napi::Array>();
  }
  std::vector<uint32_t> numbers(const char* key) {
    std::vector<uint32_t> all;
    const Napi::Array values = array(key);
    for (uint32_t i = 0; i < values.Length(); i++) {
      const Napi::Value v = values.Get(i);
      if (!v.IsNumber()) {
        fail(key, "numbers");
        break;
      }
      all.push_back(v.As<Napi::Number>().Uint32Value());
    }
    return all;
  }
  Napi::Object object(const char* key) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsObject()) return fail(key, "an object"), Napi::Object::New(object_.Env());
    return v.As<Napi::Object>();
  }
  Napi::Uint8Array bytes(const char* key) {
    const Napi::Value v = object_.Get(key);
    if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      return fail(key, "a Uint8Array"), Napi::Uint8Array::New(object_.Env(), 0);
    return v.As<Napi::Uint8Array>();
  }
  Address address(const char* key) {
    const std::optional<Address> a = parse_address(string(key));
    if (!a) fail(key, "an IP address");
    return a.value_or(Address{});
  }
  Mac mac(const char* key) {
    const std::optional<Mac> m = parse_mac(string(key));
    if (!m) fail(key, "a MAC address");
    return m.value_or(Mac{});
  }
  Reader within(const char* key) {
    const Napi::Object o = object(key);
    return Reader(o, where_ + (where_.empty() ? "" : ".") + key, error_);
  }
  Reader at(Napi::Array array, uint32_t i, const char* key) {
    const Napi::Value v = array.Get(i);
    const std::string where = where_ + (where_.empty() ? "" : ".") + key + "[" + std::to_string(i) + "]";
    if (!v.IsObject()) {
      if (error_.empty()) error_ = where + ": expected an object";
      return Reader(Napi::Object::New(object_.Env()), where, error_);
    }
    return Reader(v.As<Napi::Object>(), where, error_);
  }
  // Hands each object of an array to `take`, until something is wrong.
  template <typename Take>
  void each(const char* key, Take&& take) {
    const Napi::Array rows = array(key);
    for (uint32_t i = 0; i < rows.Length() && error_.empty(); i++) take(at(rows, i, key));
  }
  void fail(const char* key, const std::string& expected) {
    if (error_.empty()) error_ = where_ + (where_.empty() ? "" : ".") + key + ": expected " + expected;
  }
  Napi::Env env() const { return object_.Env(); }
  std::string& error() { return error_; }

 private:
  static std::string text(double v) { return std::to_string(static_cast<long long>(v)); }
  Napi::Object object_;
  std::string where_;
  std::string& error_;
};

inline Napi::Value throw_type_error(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace weir
