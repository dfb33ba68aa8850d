// Rows of one head between the caller's strided arrays and a chunk's memory, converted on the way; and that memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attune/base/view.hpp"
#include "kernels/activation.hpp"

namespace attune::engine {

/// Where row t of head h of batch entry b begins.
template <class Pointer>
Pointer* row_at(const BasicView<Pointer>& v, std::int64_t b, std::int64_t h, std::int64_t t) {
  using Byte = std::conditional_t<std::is_const_v<Pointer>, const std::byte, std::byte>;
  return static_cast<Byte*>(v.data) +
         (b * v.strides[0] + h * v.strides[1] + t * v.strides[2]) * std::int64_t(size_of(v.dtype));
}

/// to[r][0 .. columns - 1] = row first + r of the head; rows of `to` lie `stride` apart.
template <class T>
void load_rows(const ConstView& v, int b, int h, int first, int rows, int columns, T* to, std::ptrdiff_t stride) {
  for (int r = 0; r < rows; ++r) {
    const void* from = row_at(v, b, h, first + r);
    if (v.dtype == dtype_of<T>())
      std::copy_n(static_cast<const T*>(from), columns, to + r * stride);
    else
      convert(v.dtype, from, dtype_of<T>(), to + r * stride, columns);
  }
}
template <class T>
void store_rows(const T* from, std::ptrdiff_t stride, int rows, int columns, const View& v, int b, int h, int first) {
  for (int r = 0; r < rows; ++r) {
    void* to = row_at(v, b, h, first + r);
    if (v.dtype == dtype_of<T>())
      std::copy_n(from + r * stride, columns, static_cast<T*>(to));
    else
      convert(dtype_of<T>(), from + r * stride, v.dtype, to, columns);
  }
}
/// += of gradients, which are of the type that is computed in.
template <class T>
void add_rows(const T* from, std::ptrdiff_t stride, int rows, int columns, const View& v, int b, int h, int first) {
  for (int r = 0; r < rows; ++r) {
    T* to = static_cast<T*>(row_at(v, b, h, first + r));
    for (int i = 0; i < columns; ++i) to[i] += from[r * stride + i];
  }
}

/// y = e^x, on this thread whatever n: others would not flush denormals as a task does.
template <class T>
void exponentials(std::int64_t n, const T* x, T* y) {
  constexpr std::int64_t kAlone = 8192;
  for (std::int64_t i = 0; i < n; i += kAlone) {
    kernels::pointwise(kernels::Pointwise::exp, std::min(kAlone, n - i), x + i, y + i);
  }
}

/// Memory cut into arrays that begin at lines of the cache. Counted first without any, then made.
class Arena {
 public:
  explicit Arena(std::byte* base = nullptr) : base_(base) {}
  template <class T>
  T* take(std::int64_t n) {
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (std::size_t(n) * sizeof(T) + 63) / 64 * 64;
    return array;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace attune::engine
