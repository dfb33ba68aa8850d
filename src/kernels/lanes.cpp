// lanes.hpp, compiled per target and exported.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lanes.cpp"
#include "kernels/lanes.hpp"

#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Calls f(first column, lanes) for every vector of n columns; lanes is a constant for all but the last.
template <class T, class F>
HWY_INLINE void over_columns(int n, F f) {
  constexpr int kL = kLaneCount<T>;
  int c = 0;
  for (; c + kL <= n; c += kL) f(c, std::integral_constant<int, kL>());
  if (c < n) f(c, n - c);
}
// A whole vector where the number of lanes is a constant, else the first n lanes.
template <class T, int kL>
HWY_INLINE Vec<T> read(const T* p, std::integral_constant<int, kL>) {
  return load(p);
}
template <class T>
HWY_INLINE Vec<T> read(const T* p, int n) {
  return load_first(p, n);
}
template <class T, int kL>
HWY_INLINE void write(Vec<T> v, T* p, std::integral_constant<int, kL>) {
  store(v, p);
}
template <class T>
HWY_INLINE void write(Vec<T> v, T* p, int n) {
  store_first(v, p, n);
}

template <class T>
HWY_INLINE void hide_tile(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {
  const std::uint64_t all = queries >= 64 ? ~std::uint64_t(0) : (std::uint64_t(1) << queries) - 1;
  for (int j = 0; j < keys; ++j) {
    if ((bits[j] & all) == all) continue;
    T* row = x + j * stride;
    over_columns<T>(queries, [&](int c, auto n) HWY_ATTR {
      const std::uint64_t word = bits[j] >> c;  // eight readable bytes, as LoadMaskBits wants them
      const auto seen = hn::LoadMaskBits(Lanes<T>(), reinterpret_cast<const std::uint8_t*>(&word));
      write<T>(hn::IfThenElse(seen, read(row + c, n), set(value)), row + c, n);
    });
  }
}

template <class T>
HWY_INLINE void scale_lanes_tile(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {
  over_columns<T>(queries, [&](int c, auto n) HWY_ATTR {
    const Vec<T> f = read(factor + c, n);
    for (int r = 0; r < rows; ++r) write<T>(hn::Mul(read(x + r * stride + c, n), f), x + r * stride + c, n);
  });
}

template <class T>
HWY_INLINE void add_scaled(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,
                           std::ptrdiff_t y_stride) {
  const Vec<T> f = set(scale);
  for (int r = 0; r < rows; ++r) {
    const T* from = x + r * x_stride;
    T* to = y + r * y_stride;
    over_columns<T>(
        cols, [&](int c, auto n) HWY_ATTR { write<T>(hn::MulAdd(f, read(from + c, n), read(to + c, n)), to + c, n); });
  }
}

template <class T>
HWY_INLINE void row_max(const T* x, std::ptrdiff_t stride, int rows, int queries, T* top) {
  over_columns<T>(queries, [&](int c, auto n) HWY_ATTR {
    Vec<T> m = read(top + c, n);
    for (int r = 0; r < rows; ++r) m = hn::Max(m, read(x + r * stride + c, n));
    write<T>(m, top + c, n);
  });
}

template <class T>
HWY_INLINE bool finite(const T* x, int rows, int cols, std::ptrdiff_t stride) {
  Vec<T> sum = zero<T>();  // of x - x, which is 0 for all but NaN and infinity
  for (int r = 0; r < rows; ++r) {
    over_columns<T>(cols, [&](int c, auto n) HWY_ATTR {
      const Vec<T> v = read(x + r * stride + c, n);
      sum = hn::Add(sum, hn::Sub(v, v));
    });
  }
  return hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum)) == T(0);
}

template <class T>
HWY_INLINE void dots(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,
                     T* out) {
  for (int r = 0; r < rows; ++r) {
    Vec<T> sum = zero<T>();
    over_columns<T>(cols, [&](int c, auto n) HWY_ATTR {
      sum = hn::MulAdd(read(a + r * a_stride + c, n), read(b + r * b_stride + c, n), sum);
    });
    out[r] = hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum));
  }
}

// One exported name per function and type.
#define ATTUNE_LANES(T, S)                                                                                             \
  void transpose_##S(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst, std::ptrdiff_t dst_stride,   \
                     T scale) {                                                                                        \
    transpose_into<false, false>(src, src_stride, rows, cols, dst, dst_stride, &scale);                                \
  }                                                                                                                    \
  void add_transpose_##S(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst,                          \
                         std::ptrdiff_t dst_stride, T scale) {                                                         \
    transpose_into<true, false>(src, src_stride, rows, cols, dst, dst_stride, &scale);                                 \
  }                                                                                                                    \
  void hide_##S(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {              \
    hide_tile(x, stride, queries, keys, bits, value);                                                                  \
  }                                                                                                                    \
  void scale_lanes_##S(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {                          \
    scale_lanes_tile(x, stride, rows, queries, factor);                                                                \
  }                                                                                                                    \
  void add_scaled_rows_##S(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,                     \
                           std::ptrdiff_t y_stride) {                                                                  \
    add_scaled(x, x_stride, rows, cols, scale, y, y_stride);                                                           \
  }                                                                                                                    \
  void row_max_lanes_##S(const T* x, std::ptrdiff_t stride, int rows, int queries, T* top) {                           \
    row_max(x, stride, rows, queries, top);                                                                            \
  }                                                                                                                    \
  bool all_finite_##S(const T* x, int rows, int cols, std::ptrdiff_t stride) { return finite(x, rows, cols, stride); } \
  void dot_rows_##S(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,      \
                    T* out) {                                                                                          \
    dots(a, a_stride, b, b_stride, rows, cols, out);                                                                   \
  }
ATTUNE_LANES(float, f32)
ATTUNE_LANES(double, f64)
#undef ATTUNE_LANES

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

#define ATTUNE_LANES(T, S)                                                                                           \
  void transpose(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst, std::ptrdiff_t dst_stride,     \
                 T scale) {                                                                                          \
    ATTUNE_DISPATCH(transpose_##S)(src, src_stride, rows, cols, dst, dst_stride, scale);                             \
  }                                                                                                                  \
  void add_transpose(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst, std::ptrdiff_t dst_stride, \
                     T scale) {                                                                                      \
    ATTUNE_DISPATCH(add_transpose_##S)(src, src_stride, rows, cols, dst, dst_stride, scale);                         \
  }                                                                                                                  \
  void hide(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {                \
    ATTUNE_DISPATCH(hide_##S)(x, stride, queries, keys, bits, value);                                                \
  }                                                                                                                  \
  void hide(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits) {                         \
    hide(x, stride, queries, keys, bits, -std::numeric_limits<T>::infinity());                                       \
  }                                                                                                                  \
  void scale_lanes(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {                            \
    ATTUNE_DISPATCH(scale_lanes_##S)(x, stride, rows, queries, factor);                                              \
  }                                                                                                                  \
  void add_scaled_rows(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,                       \
                       std::ptrdiff_t y_stride) {                                                                    \
    ATTUNE_DISPATCH(add_scaled_rows_##S)(x, x_stride, rows, cols, scale, y, y_stride);                               \
  }                                                                                                                  \
  void row_max_lanes(const T* x, std::ptrdiff_t stride, int rows, int queries, T* top) {                             \
    ATTUNE_DISPATCH(row_max_lanes_##S)(x, stride, rows, queries, top);                                               \
  }                                                                                                                  \
  bool all_finite(const T* x, int rows, int cols, std::ptrdiff_t stride) {                                           \
    return ATTUNE_DISPATCH(all_finite_##S)(x, rows, cols, stride);                                                   \
  }                                                                                                                  \
  void dot_rows(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,        \
                T* out) {                                                                                            \
    ATTUNE_DISPATCH(dot_rows_##S)(a, a_stride, b, b_stride, rows, cols, out);                                        \
  }
ATTUNE_LANES(float, f32)
ATTUNE_LANES(double, f64)
#undef ATTUNE_LANES

}  // namespace attune::kernels
#endif
