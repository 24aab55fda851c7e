// Plain fields that several workers read and write: relaxed atomic access without changing their type, so that an entry keeps
// its size and its layout.
#pragma once
#include <atomic>

namespace weir {

template <typename T>
T shared_load(const T& field) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_relaxed);
}
template <typename T>
void shared_store(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_relaxed);
}
template <typename T>
void shared_add(T& field, T n) {
  std::atomic_ref<T>(field).fetch_add(n, std::memory_order_relaxed);
}

}  // namespace weir
