#include "binding/signals_binding.h"

#include <algorithm>
#include <array>
#include <span>

namespace weir {
namespace {

Napi::Value numbers(Napi::Env env, std::span<const double> values) {
  Napi::Float64Array out = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), out.Data());
  return out;
}

}  // namespace

Napi::Value signals_to_js(Napi::Env env, const std::vector<const Counters*>& workers, const Program& program) {
  std::vector<double> values;
  values.reserve(program.instances.size() * 10);
  for (const Instance& instance : program.instances) {
    std::array<uint64_t, 7> sums{};
    uint64_t told = 0;  // the latest
    for (const Counters* c : workers) {
      const InstanceTraffic& row = c->instances[instance.id];
      // A stream may be closed by another worker than opened it: each count alone may be below zero, the sum is not.
      const uint64_t parts[7] = {row.streams.get(), row.sent.packets.get(), row.sent.bytes.get(), row.received.packets.get(), row.received.bytes.get(), row.unreachable.get(), row.placed.get()};
      for (size_t i = 0; i < sums.size(); i++) sums[i] += parts[i];
      told = std::max(told, row.told_mtu.get());
    }
    values.push_back(instance.id);
    values.push_back(double(std::max<int64_t>(int64_t(sums[0]), 0)));
    for (size_t i = 1; i < sums.size(); i++) values.push_back(double(sums[i]));
    values.push_back(double(told >> 16));
    values.push_back(double(told & 0xffff));
  }
  return numbers(env, values);
}

Napi::Value probes_to_js(Napi::Env env, const std::vector<ProbeRow>& rows) {
  std::vector<double> values;
  values.reserve(rows.size() * 8);
  for (const ProbeRow& r : rows) {
    const double row[8] = {double(r.instance), double(r.answered_in_a_row), double(r.lost_in_a_row), double(r.sent), double(r.answered), double(r.refused), double(r.late), double(r.latency_ns) / 1e6};
    values.insert(values.end(), row, row + 8);
  }
  return numbers(env, values);
}

}  // namespace weir
