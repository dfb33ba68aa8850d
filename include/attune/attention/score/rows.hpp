// What the row maps of scores are made of: projections by a learned matrix, and rows brought to one length.
#pragma once
#include <cmath>
#include <type_traits>

#include "attune/attention/stage.hpp"

namespace attune::detail {

// The library's kernel: src/attention/score_checks.cpp.
void transpose_weight(const float* weight, int rows, int cols, std::ptrdiff_t stride, float* turned);
void transpose_weight(const double* weight, int rows, int cols, std::ptrdiff_t stride, double* turned);

/// The transpose [cols][rows] of a matrix [rows][cols] whose rows lie `stride` apart, in the call's scratch.
template <class T>
const T* transposed(const T* weight, int rows, int cols, std::ptrdiff_t stride, Call<T>& call) {
  T* turned = call.scratch(std::size_t(rows) * cols);
  if constexpr (kHasKernel<T>) {
    transpose_weight(weight, rows, cols, stride, turned);
  } else {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) turned[std::ptrdiff_t(c) * rows + r] = weight[r * stride + c];
    }
  }
  return turned;
}

/// out [n][F] = rows [n][dim] weight^T, weight [F][dim] with rows `stride` apart.
template <class T>
void project(Matrix<const T> rows, const T* weight, std::ptrdiff_t stride, Matrix<T> out, Call<T>& call) {
  const T* turned = transposed(weight, out.cols, rows.cols, stride, call);
  attune::product(rows.rows, out.cols, rows.cols, rows.data, rows.stride, 1, turned, out.cols, out.data, out.stride);
}
/// out = rows weight^T: drows += dout weight, dweight += dout^T rows.
template <class T>
void project_backward(Matrix<const T> rows, Matrix<const T> dout, const Parameter<T>& weight, std::ptrdiff_t stride,
                      Matrix<T> drows) {
  const int n = rows.rows, dim = rows.cols, width = dout.cols;
  attune::add_product(n, dim, width, dout.data, dout.stride, 1, weight.value, stride, drows.data, drows.stride);
  attune::add_product(width, dim, n, dout.data, 1, dout.stride, rows.data, rows.stride, weight.grad, stride);
}

/// Sums of squares are made in double where rows are float: neither tiny nor huge rows lose their length.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, T>;

/// Sum of f(0) .. f(n - 1), sixteen running sums at a time.
template <class T, class F>
Wide<T> wide_sum(int n, F f) {
  constexpr int kSums = 16;
  Wide<T> sum[kSums] = {};
  int d = 0;
  for (; d + kSums <= n; d += kSums) {
    for (int l = 0; l < kSums; ++l) sum[l] += f(d + l);
  }
  for (int l = 0; d < n; ++d, ++l) sum[l] += f(d);
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
  }
  return sum[0];
}
/// 1 / sqrt(share * sum of x^2 + epsilon); 0 where that is 1 / 0.
template <class T>
T inverse_length(const T* x, int n, double share, double epsilon) {
  const Wide<T> squares = wide_sum<T>(n, [=](int d) { return Wide<T>(x[d]) * Wide<T>(x[d]); });
  const Wide<T> sum = Wide<T>(share) * squares + Wide<T>(epsilon);
  return sum > Wide<T>(0) ? T(Wide<T>(1) / sqrt(sum)) : T(0);
}
/// y = r x with r = inverse_length(x): dx += r (h - share r^2 (x . h) x) for the gradient h(d) of y. Returns x . h.
template <class T, class H>
T add_length_backward(const T* x, H h, int n, T r, double share, T* dx) {
  const T dot = T(wide_sum<T>(n, [=](int d) { return Wide<T>(x[d]) * Wide<T>(h(d)); }));
  const T along = T(share) * r * r * dot;
  for (int d = 0; d < n; ++d) dx[d] += r * (h(d) - along * x[d]);
  return dot;
}

}  // namespace attune::detail
