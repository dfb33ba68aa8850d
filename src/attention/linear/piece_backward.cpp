// The way back through every product of a piece (piece.hpp).
#include <algorithm>

#include "attention/linear/piece.hpp"
#include "attention/linear/triangle.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {

/// The way back through solve(), from the last row to the first: dupdate, the gradient of u, becomes that of error.
template <class T>
void Piece<T>::solve_backward(T* dupdate, T* dbeta) {
  const int n = tokens_, columns = call_.columns(), c = call_.chunk;
  const T* beta = chunk_.beta + first_at_;
  for (int b = (n - 1) / kSolved * kSolved; b >= 0; b -= kSolved) {
    const int end = std::min(n, b + kSolved);
    if (end < n) {
      kernels::add_product(end - b, columns, n - end, own_ + std::ptrdiff_t(end) * c + b, 1, c,
                           dupdate + std::ptrdiff_t(end) * columns, columns, dupdate + std::ptrdiff_t(b) * columns,
                           columns);
    }
    for (int t = end - 1; t >= b; --t) {
      T* row = dupdate + std::ptrdiff_t(t) * columns;
      for (int s = t + 1; s < end; ++s)
        add_scaled_row(columns, own_[s * c + t], dupdate + std::ptrdiff_t(s) * columns, row);
      // u = beta error
      kernels::dot_rows(row, columns, error_ + std::ptrdiff_t(t) * columns, columns, 1, columns, dbeta + t);
      for (int w = 0; w < columns; ++w) row[w] *= beta[t];
    }
  }
}

template <class T>
void Piece<T>::backward(const T* before, const T* after, const T* dout, T* dstate, const ChunkGradients<T>& g) {
  const int n = tokens_, rows = call_.rows(), columns = call_.columns(), c = call_.chunk, gates = call_.gates;
  const std::ptrdiff_t at = first_at_;
  T *dwrite = g.key + at * rows, *dlast = dots_, *dfirst = dots_ + rows;

  std::copy(before, before + call_.state_size(), begin_);
  if (gates) scale_rows(first_, begin_);
  if (call_.delta) solve(begin_);
  kernels::transpose(begin_, columns, rows, columns, begin_turned_, rows, T(1));
  kernels::transpose(update_rows_, columns, n, columns, update_turned_, c, T(1));

  // S' = e^G_last R_last
  if (gates) {
    kernels::dot_rows(dstate, columns, after, columns, rows, columns, dlast);
    if (n > 1) scale_rows(factor_ + std::ptrdiff_t(n - 1) * gates, dstate);
  }
  // R_last = R_0 + K~^T U
  kernels::transpose(dstate, columns, rows, columns, dstate_turned_, rows, T(1));
  kernels::product(n, columns, rows, write_, rows, 1, dstate, columns, dupdate_, columns, ahead_);
  kernels::product(n, rows, columns, update_rows_, columns, 1, dstate_turned_, rows, dwrite, rows, ahead_);
  for (int h = 0; h < chunk_.heads; ++h) {
    const T *read = of_head(read_, h, rows), *up = of_head(dout, h, columns);
    T* dread = of_head(g.query, h, rows);
    // out = Q~ R_0 + tril(Q~ K~^T) U
    lower_product(n, rows, read, write_turned_, pairs_, c, false);
    add_lower_turned_times(n, columns, pairs_, c, up, dupdate_);
    lower_product(n, columns, up, update_turned_, dpairs_, c, false);
    kernels::product(n, rows, columns, up, columns, 1, begin_turned_, rows, dread, rows, ahead_);
    add_lower_times(n, rows, dpairs_, c, write_, dread);
    add_lower_turned_times(n, rows, dpairs_, c, read, dwrite);
    kernels::add_product(rows, columns, n, read, 1, rows, up, columns, dstate, columns, ahead_);
  }
  if (call_.delta) {
    // error = V - K^ R_0 - stril(K^ K~^T) U, U = beta error
    solve_backward(dupdate_, g.beta + at);
    lower_product(n, columns, dupdate_, update_turned_, dpairs_, c, true);
    kernels::product(n, rows, columns, dupdate_, columns, 1, begin_turned_, rows, dback_, rows);
    add_lower_times(n, rows, dpairs_, c, write_, dback_);
    add_lower_turned_times(n, rows, dpairs_, c, static_cast<const T*>(back_), dwrite);
    kernels::add_product(rows, columns, n, back_, 1, rows, dupdate_, columns, dstate, columns);
  }
  std::copy(dupdate_, dupdate_ + std::ptrdiff_t(n) * columns, g.value + at * columns);
  if (gates) {
    // R_0 = e^g_first S
    kernels::dot_rows(dstate, columns, begin_, columns, rows, columns, dfirst);
    scale_rows(first_, dstate);
    leave_gates(dlast, dfirst, g);
  } else if (call_.delta) {
    for (int i = 0; i < n * rows; ++i) dwrite[i] -= dback_[i];
  }
}

/// From gradients of q~, k~ and -k^ to those of q, k and the gates:
///   q~ = e^G q, k~ = e^-G k, -k^ = -e^G k, G_t = sum of g up to t without the first, S' = e^G_last R, R_0 = e^g_first
///   S.
template <class T>
void Piece<T>::leave_gates(const T* dlast, const T* dfirst, const ChunkGradients<T>& g) {
  const int n = tokens_, rows = call_.rows(), gates = call_.gates;
  std::fill(dgate_, dgate_ + std::ptrdiff_t(n) * gates, T(0));
  // dG += sign * (mapped row) . (its gradient), over the row or number by number.
  const auto add_gates = [&](T sign, const T* mapped, const T* gradient) {
    if (gates == 1) {
      kernels::dot_rows(mapped, rows, gradient, rows, n, rows, dots_ + 2 * rows);
      for (int t = 0; t < n; ++t) dgate_[t] += sign * dots_[2 * rows + t];
    } else {
      for (int i = 0; i < n * rows; ++i) dgate_[i] += sign * (mapped[i] * gradient[i]);
    }
  };
  const auto each = [&](auto f) {  // f(number of a row, its factor)
    for (int t = 0; t < n; ++t) {
      const T* factor = factor_ + std::ptrdiff_t(t) * gates;
      if (gates == 1) {
        const T one = *factor;
        for (int i = 0; i < rows; ++i) f(t * rows + i, one);
      } else {
        for (int i = 0; i < rows; ++i) f(t * rows + i, factor[i]);
      }
    }
  };
  for (int h = 0; h < chunk_.heads; ++h) {
    T* dread = of_head(g.query, h, rows);
    add_gates(1, of_head(read_, h, rows), dread);
    each([&](int i, T factor) { dread[i] *= factor; });
  }
  T* dwrite = g.key + std::ptrdiff_t(first_at_) * rows;
  add_gates(-1, write_, dwrite);
  each([&](int i, T factor) { dwrite[i] /= factor; });
  if (call_.delta) {
    add_gates(1, back_, dback_);
    each([&](int i, T factor) { dwrite[i] -= factor * dback_[i]; });
  }
  T* to = g.decay + std::ptrdiff_t(first_at_) * gates;
  for (int f = 0; f < rows; ++f) dgate_[std::ptrdiff_t(n - 1) * gates + (gates == 1 ? 0 : f)] += dlast[f];
  for (int t = n - 1; t > 0; --t) {
    T *sum = dgate_ + std::ptrdiff_t(t) * gates, *earlier = sum - gates;
    for (int i = 0; i < gates; ++i) {
      to[t * gates + i] = sum[i];
      earlier[i] += sum[i];
    }
  }
  std::fill(to, to + gates, T(0));
  for (int f = 0; f < rows; ++f) to[gates == 1 ? 0 : f] += dfirst[f];
}

template void Piece<float>::backward(const float*, const float*, const float*, float*, const ChunkGradients<float>&);
template void Piece<double>::backward(const double*, const double*, const double*, double*,
                                      const ChunkGradients<double>&);

}  // namespace attune::engine
