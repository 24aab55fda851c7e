// Zeroed arrays for tables of millions of entries: page aligned, on huge pages where the kernel has them to give. Memory that
// is never touched is never taken, unless it is asked for in advance.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

namespace weir {

template <typename T>
class BigArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  // `touched`: take the memory now, so that no packet has to wait for the kernel to clear a page.
  explicit BigArray(size_t n, bool touched = false) : bytes_((n * sizeof(T) + kHugePage - 1) / kHugePage * kHugePage) {
    // Room to align: the kernel gives huge pages only at their own boundaries.
    void* map = mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = map;
    data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(map) + kHugePage - 1) / kHugePage * kHugePage);
    if (n * sizeof(T) >= kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);
    if (touched) touch();
  }
  // Somebody else's memory.
  explicit BigArray(T* data) : bytes_(0), map_(nullptr), data_(data) {}
  ~BigArray() {
    if (map_) munmap(map_, bytes_ + kHugePage);
  }
  BigArray(const BigArray&) = delete;
  BigArray& operator=(const BigArray&) = delete;

  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  static constexpr size_t kHugePage = 2 << 20;

  void touch() {
    if (madvise(data_, bytes_, 23 /* MADV_POPULATE_WRITE, Linux 5.14 */) == 0) return;
    for (size_t at = 0; at < bytes_; at += 4096) reinterpret_cast<volatile uint8_t*>(data_)[at] = 0;
  }

  size_t bytes_;
  void* map_;
  T* data_;
};

}  // namespace weir
