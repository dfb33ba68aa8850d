// Products with a triangle: what a token has to do with the tokens before it, a piece at once. Rectangles of a few rows
// are multiplied whole and cleared beyond the diagonal.
#pragma once
#include <algorithm>
#include <cstddef>

#include "kernels/product.hpp"

namespace attune::engine {

/// Rows of a triangle that are multiplied as a rectangle.
inline constexpr int kTriangle = 16;
/// Rows of the triangular system that are solved one by one.
inline constexpr int kSolved = 8;

/// c[t][s] = a[t] . b[s] for s <= t (s < t if strict), 0 beyond the diagonal in the rectangles that the next two read.
/// a [n][inner], b turned [inner][stride], c [n][stride].
template <class T>
void lower_product(int n, int inner, const T* a, const T* b, T* c, int stride, bool strict) {
  for (int r = 0; r < n; r += kTriangle) {
    const int rows = std::min(kTriangle, n - r), columns = r + rows;
    kernels::product(rows, columns, inner, a + std::ptrdiff_t(r) * inner, inner, 1, b, stride,
                     c + std::ptrdiff_t(r) * stride, stride);
    for (int t = r; t < r + rows; ++t) {
      std::fill(c + std::ptrdiff_t(t) * stride + t + (strict ? 0 : 1), c + std::ptrdiff_t(t) * stride + columns, T(0));
    }
  }
}
/// c [n][width] += a b, b [n][width], for a triangle a.
template <class T>
void add_lower_times(int n, int width, const T* a, int stride, const T* b, T* c) {
  for (int r = 0; r < n; r += kTriangle) {
    const int rows = std::min(kTriangle, n - r);
    kernels::add_product(rows, width, r + rows, a + std::ptrdiff_t(r) * stride, stride, 1, b, width,
                         c + std::ptrdiff_t(r) * width, width);
  }
}
/// c [n][width] += a^T b.
template <class T>
void add_lower_turned_times(int n, int width, const T* a, int stride, const T* b, T* c) {
  for (int s = 0; s < n; s += kTriangle) {
    const std::ptrdiff_t at = std::ptrdiff_t(s) * width;
    kernels::add_product(std::min(kTriangle, n - s), width, n - s, a + std::ptrdiff_t(s) * stride + s, 1, stride,
                         b + at, width, c + at, width);
  }
}
template <class T>
void add_scaled_row(int width, T factor, const T* x, T* y) {
  for (int i = 0; i < width; ++i) y[i] += factor * x[i];
}

}  // namespace attune::engine
