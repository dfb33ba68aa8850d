// Arithmetic on arrays: memory-bound loops over vectors, cut into ranges of a fixed size.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
#include "kernels/elementwise.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"

#ifndef ATTUNE_KERNELS_ELEMENTWISE_ONCE_
#define ATTUNE_KERNELS_ELEMENTWISE_ONCE_
namespace attune::kernels {
enum class Binary : std::uint8_t { add, sub, mul, div, add_mul };
}  // namespace attune::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T>
void binary_range(Binary op, std::int64_t n, const T* a, const T* b, T* y) {
  using V = Vec<T>;
  switch (op) {
    case Binary::add:
      return map(n, a, b, y, [](V p, V q) HWY_ATTR { return hn::Add(p, q); });
    case Binary::sub:
      return map(n, a, b, y, [](V p, V q) HWY_ATTR { return hn::Sub(p, q); });
    case Binary::mul:
      return map(n, a, b, y, [](V p, V q) HWY_ATTR { return hn::Mul(p, q); });
    case Binary::div:
      return map(n, a, b, y, [](V p, V q) HWY_ATTR { return hn::Div(p, q); });
    case Binary::add_mul:
      return map(n, a, b, y, y, [](V p, V q, V r) HWY_ATTR { return hn::MulAdd(p, q, r); });
  }
}

template <class T>
void scale_range(std::int64_t n, T factor, T offset, const T* x, T* y) {
  const Vec<T> f = set(factor), o = set(offset);
  map(n, x, y, [f, o](Vec<T> v) HWY_ATTR { return hn::MulAdd(f, v, o); });
}

template <class T>
void add_scaled_range(std::int64_t n, T factor, const T* x, T* y) {
  const Vec<T> f = set(factor);
  map(n, x, y, y, [f](Vec<T> v, Vec<T> w) HWY_ATTR { return hn::MulAdd(f, v, w); });
}

/// y[c] += sum over rows, one after the other, of x (times b if that is given).
template <class T>
void sum_rows_range(std::int64_t rows, std::int64_t width, const T* x, const T* b, std::int64_t stride, T* y) {
  constexpr int kL = kLaneCount<T>, kColumns = 4;  // vectors side by side: four independent sums
  std::int64_t c = 0;
  for (; c + kColumns * kL <= width; c += kColumns * kL) {
    Vec<T> sum[kColumns];
    ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) sum[j] = load(y + c + j * kL);
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* row = x + r * stride + c;
      ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) {
        sum[j] = b ? hn::MulAdd(load(row + j * kL), load(b + r * stride + c + j * kL), sum[j])
                   : hn::Add(sum[j], load(row + j * kL));
      }
    }
    ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) store(sum[j], y + c + j * kL);
  }
  for (; c < width; c += kL) {
    const int n = width - c < kL ? int(width - c) : kL;
    Vec<T> sum = load_first(y + c, n);
    for (std::int64_t r = 0; r < rows; ++r) {
      const Vec<T> v = load_first(x + r * stride + c, n);
      sum = b ? hn::MulAdd(v, load_first(b + r * stride + c, n), sum) : hn::Add(sum, v);
    }
    store_first(sum, y + c, n);
  }
}

template <class T>
double dot_range(std::int64_t n, const T* a, const T* b) {
  if constexpr (sizeof(T) == 8) {
    return sum_map(n, a, b, [](Vec<T> s, Vec<T> p, Vec<T> q) HWY_ATTR { return hn::MulAdd(p, q, s); });
  } else {
    // Plain double arithmetic: eight sums that the compiler may keep in vectors.
    double s[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (int j = 0; j < 8; ++j) s[j] += double(a[i + j]) * double(b[i + j]);
    }
    for (int j = 0; i < n; ++i, ++j) s[j] += double(a[i]) * double(b[i]);
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
}

template <class T>
double sum_range(std::int64_t n, const T* x) {
  double s[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; ++j) s[j] += double(x[i + j]);
  }
  for (int j = 0; i < n; ++i, ++j) s[j] += double(x[i]);
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "kernels/ranges.hpp"

namespace attune::kernels {
namespace {

template <class T>
void binary(Binary op, std::int64_t n, const T* a, const T* b, T* y) {
  const auto range = ATTUNE_DISPATCH(binary_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(op, end - i, a + i, b + i, y + i); });
}

template <class T>
void binary_row(Binary op, std::int64_t rows, std::int64_t width, const T* x, const T* row, T* y) {
  const auto range = ATTUNE_DISPATCH(binary_range<T>);
  over_rows(rows, width, [=](std::int64_t r, std::int64_t end) {
    for (; r < end; ++r) range(op, width, x + r * width, row, y + r * width);
  });
}

template <class T>
void sum_rows_in_blocks(std::int64_t rows, std::int64_t width, const T* x, const T* b, std::int64_t stride, T* y,
                        bool accumulate) {
  const auto range = ATTUNE_DISPATCH(sum_rows_range<T>);
  if (width == 0) return;
  sum_over_row_blocks<T>(rows, width, y, accumulate, [=](std::int64_t r, std::int64_t end, T* partial) {
    range(end - r, width, x + r * stride, b ? b + r * stride : nullptr, stride, partial);
  });
}

}  // namespace

template <class T>
void add(std::int64_t n, const T* a, const T* b, T* y) {
  binary(Binary::add, n, a, b, y);
}
template <class T>
void sub(std::int64_t n, const T* a, const T* b, T* y) {
  binary(Binary::sub, n, a, b, y);
}
template <class T>
void mul(std::int64_t n, const T* a, const T* b, T* y) {
  binary(Binary::mul, n, a, b, y);
}
template <class T>
void div(std::int64_t n, const T* a, const T* b, T* y) {
  binary(Binary::div, n, a, b, y);
}
template <class T>
void add_mul(std::int64_t n, const T* a, const T* b, T* y) {
  binary(Binary::add_mul, n, a, b, y);
}

template <class T>
void scale(std::int64_t n, T factor, T offset, const T* x, T* y) {
  const auto range = ATTUNE_DISPATCH(scale_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, factor, offset, x + i, y + i); });
}
template <class T>
void add_scaled(std::int64_t n, T factor, const T* x, T* y) {
  const auto range = ATTUNE_DISPATCH(add_scaled_range<T>);
  over_elements(n, [=](std::int64_t i, std::int64_t end) { range(end - i, factor, x + i, y + i); });
}
template <class T>
void fill(std::int64_t n, T value, T* y) {
  over_elements(n, [=](std::int64_t i, std::int64_t end) { std::fill(y + i, y + end, value); });
}
template <class T>
void copy(std::int64_t n, const T* x, T* y) {
  over_elements(n, [=](std::int64_t i, std::int64_t end) { std::copy(x + i, x + end, y + i); });
}

template <class T>
void add_row(std::int64_t rows, std::int64_t width, const T* x, const T* row, T* y) {
  binary_row(Binary::add, rows, width, x, row, y);
}
template <class T>
void mul_row(std::int64_t rows, std::int64_t width, const T* x, const T* row, T* y) {
  binary_row(Binary::mul, rows, width, x, row, y);
}
template <class T>
void sum_rows(std::int64_t rows, std::int64_t width, const T* x, std::int64_t stride, T* y, bool accumulate) {
  sum_rows_in_blocks<T>(rows, width, x, nullptr, stride, y, accumulate);
}
template <class T>
void sum_rows_mul(std::int64_t rows, std::int64_t width, const T* a, const T* b, T* y, bool accumulate) {
  sum_rows_in_blocks<T>(rows, width, a, b, width, y, accumulate);
}

template <class T>
double sum(std::int64_t n, const T* x) {
  const auto range = ATTUNE_DISPATCH(sum_range<T>);
  return sum_over_ranges(n, [=](std::int64_t i, std::int64_t end) { return range(end - i, x + i); });
}
template <class T>
double dot(std::int64_t n, const T* a, const T* b) {
  const auto range = ATTUNE_DISPATCH(dot_range<T>);
  return sum_over_ranges(n, [=](std::int64_t i, std::int64_t end) { return range(end - i, a + i, b + i); });
}

template <class T>
void swap_axes(std::int64_t batch, std::int64_t first, std::int64_t second, std::int64_t width, const T* x, T* y,
               bool accumulate) {
  const auto plus = ATTUNE_DISPATCH(binary_range<T>);
  over_rows(batch * second, first * width, [=](std::int64_t row, std::int64_t end) {
    for (; row < end; ++row) {  // row = b * second + s: writes y[b][s] from front to back
      const T* from = x + (row / second * first * second + row % second) * width;
      T* to = y + row * first * width;
      for (std::int64_t f = 0; f < first; ++f, from += second * width, to += width) {
        if (accumulate)
          plus(Binary::add, width, to, from, to);
        else
          std::copy(from, from + width, to);
      }
    }
  });
}

#define ATTUNE_INSTANTIATE(T)                                                              \
  template void add<T>(std::int64_t, const T*, const T*, T*);                              \
  template void sub<T>(std::int64_t, const T*, const T*, T*);                              \
  template void mul<T>(std::int64_t, const T*, const T*, T*);                              \
  template void div<T>(std::int64_t, const T*, const T*, T*);                              \
  template void add_mul<T>(std::int64_t, const T*, const T*, T*);                          \
  template void scale<T>(std::int64_t, T, T, const T*, T*);                                \
  template void add_scaled<T>(std::int64_t, T, const T*, T*);                              \
  template void fill<T>(std::int64_t, T, T*);                                              \
  template void copy<T>(std::int64_t, const T*, T*);                                       \
  template void add_row<T>(std::int64_t, std::int64_t, const T*, const T*, T*);            \
  template void mul_row<T>(std::int64_t, std::int64_t, const T*, const T*, T*);            \
  template void sum_rows<T>(std::int64_t, std::int64_t, const T*, std::int64_t, T*, bool); \
  template void sum_rows_mul<T>(std::int64_t, std::int64_t, const T*, const T*, T*, bool); \
  template double sum<T>(std::int64_t, const T*);                                          \
  template double dot<T>(std::int64_t, const T*, const T*);                                \
  template void swap_axes<T>(std::int64_t, std::int64_t, std::int64_t, std::int64_t, const T*, T*, bool);
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::kernels
#endif
