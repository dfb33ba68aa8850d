// The products of a piece (piece.hpp), and the way back through each.
#include "attention/linear/piece.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/activation.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {
namespace {

/// Gates of a piece may add up to this much: e^G keeps its digits (a sum of 8 in float32 is known to 5e-7).
template <class T>
constexpr T kGateLimit = sizeof(T) == 4 ? 8 : 32;

/// Rows of a triangle that are multiplied as a rectangle.
constexpr int kTriangle = 16;
/// Rows of the triangular system that are solved one by one.
constexpr int kSolved = 8;

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

}  // namespace

template <class T>
Piece<T>::Piece(const LinearCall<T>& call, Arena& arena, bool backward) : call_(call) {
  const std::int64_t c = call.chunk, rows = call.rows(), columns = call.columns(), gates = call.gates;
  gate_sum_ = arena.take<T>(c * gates);
  factor_ = arena.take<T>(c * gates);
  first_ = arena.take<T>(gates);
  gated_read_ = arena.take<T>(gates ? call.group * c * rows : 0);
  gated_write_ = arena.take<T>(gates ? c * rows : 0);
  write_turned_ = arena.take<T>(c * rows);
  pairs_ = arena.take<T>(c * c);
  back_ = arena.take<T>(call.delta ? c * rows : 0);
  own_ = arena.take<T>(call.delta ? c * c : 0);
  error_ = arena.take<T>(call.delta ? c * columns : 0);
  update_ = arena.take<T>(call.delta ? c * columns : 0);
  const std::int64_t b = backward ? 1 : 0;
  begin_ = arena.take<T>(b * rows * columns);
  begin_turned_ = arena.take<T>(b * rows * columns);
  dstate_turned_ = arena.take<T>(b * rows * columns);
  update_turned_ = arena.take<T>(b * c * columns);
  dpairs_ = arena.take<T>(b * c * c);
  dupdate_ = arena.take<T>(b * c * columns);
  dback_ = arena.take<T>(call.delta ? b * c * rows : 0);
  dgate_ = arena.take<T>(b * c * gates);
  dots_ = arena.take<T>(b * 2 * rows);
}

template <class T>
int Piece<T>::open(const Chunk<T>& chunk, int first, bool alone) {
  const int rows = call_.rows(), gates = call_.gates;
  chunk_ = chunk;
  first_at_ = first;
  tokens_ = alone ? 1 : chunk.tokens - first;
  const T* key = chunk.key + std::ptrdiff_t(first) * rows;
  if (gates == 0) {
    read_ = chunk.query;
    write_ = key;
  } else {
    std::fill(gate_sum_, gate_sum_ + gates, T(0));
    for (int t = 1; t < tokens_; ++t) {
      const T* gate = chunk.decay + std::ptrdiff_t(first + t) * gates;
      T *before = gate_sum_ + std::ptrdiff_t(t - 1) * gates, *sum = before + gates;
      int beyond = 0;  // counts a NaN too
      for (int i = 0; i < gates; ++i) {
        sum[i] = before[i] + gate[i];
        beyond += !(std::abs(sum[i]) <= kGateLimit<T>);
      }
      if (beyond) tokens_ = t;
    }
    kernels::pointwise(kernels::Pointwise::exp, gates, chunk.decay + std::ptrdiff_t(first) * gates, first_);
    kernels::pointwise(kernels::Pointwise::exp, std::int64_t(tokens_) * gates, gate_sum_, factor_);
    // Each row times its factors: one for the row, or one for each number of it.
    const auto times = [&](const T* x, T* y, auto f) {
      if (gates == 1) {
        for (int t = 0; t < tokens_; ++t) {
          const T factor = factor_[t];
          for (int i = 0; i < rows; ++i) y[t * rows + i] = f(x[t * rows + i], factor);
        }
      } else {
        const int n = tokens_ * rows;
        for (int i = 0; i < n; ++i) y[i] = f(x[i], factor_[i]);
      }
    };
    for (int h = 0; h < chunk.heads; ++h) {
      times(of_head(chunk.query, h, rows), of_head(gated_read_, h, rows), [](T x, T e) { return x * e; });
    }
    times(key, gated_write_, [](T x, T e) { return x / e; });
    if (call_.delta) times(key, back_, [](T x, T e) { return -x * e; });
    read_ = gated_read_;
    write_ = gated_write_;
  }
  if (call_.delta && gates == 0) {
    for (int i = 0; i < tokens_ * rows; ++i) back_[i] = -key[i];
  }
  kernels::transpose(write_, rows, tokens_, rows, write_turned_, call_.chunk, T(1));
  update_rows_ = call_.delta ? update_ : chunk.value + std::ptrdiff_t(first) * call_.columns();
  return tokens_;
}

/// Rows of a state times their factors.
template <class T>
void Piece<T>::scale_rows(const T* factor, T* state) const {
  const int columns = call_.columns();
  for (int f = 0; f < call_.rows(); ++f) {
    const T by = factor[call_.gates == 1 ? 0 : f];
    T* row = state + std::ptrdiff_t(f) * columns;
    for (int w = 0; w < columns; ++w) row[w] *= by;
  }
}

/// error = v - R^T k^ of every token, R that of the token before, and u = beta error: blocks of rows in order, each
/// with a product for the blocks before it.
template <class T>
void Piece<T>::solve(const T* state) {
  const int n = tokens_, rows = call_.rows(), columns = call_.columns(), c = call_.chunk;
  const T *value = chunk_.value + std::ptrdiff_t(first_at_) * columns, *beta = chunk_.beta + first_at_;
  std::copy(value, value + std::ptrdiff_t(n) * columns, error_);
  kernels::add_product(n, columns, rows, back_, rows, 1, state, columns, error_, columns);
  lower_product(n, rows, back_, write_turned_, own_, c, true);
  for (int b = 0; b < n; b += kSolved) {
    const int end = std::min(n, b + kSolved);
    if (b > 0) {
      kernels::add_product(end - b, columns, b, own_ + std::ptrdiff_t(b) * c, c, 1, update_, columns,
                           error_ + std::ptrdiff_t(b) * columns, columns);
    }
    for (int t = b; t < end; ++t) {
      T* error = error_ + std::ptrdiff_t(t) * columns;
      for (int s = b; s < t; ++s)
        add_scaled_row(columns, own_[t * c + s], update_ + std::ptrdiff_t(s) * columns, error);
      for (int w = 0; w < columns; ++w) update_[t * columns + w] = beta[t] * error[w];
    }
  }
}

template <class T>
void Piece<T>::forward(T* state, T* out) {
  const int n = tokens_, rows = call_.rows(), columns = call_.columns(), c = call_.chunk;
  if (call_.gates) scale_rows(first_, state);
  if (call_.delta) solve(state);
  for (int h = 0; h < chunk_.heads; ++h) {
    const T* read = of_head(read_, h, rows);
    T* to = of_head(out, h, columns);
    lower_product(n, rows, read, write_turned_, pairs_, c, false);
    kernels::product(n, columns, rows, read, rows, 1, state, columns, to, columns);
    add_lower_times(n, columns, pairs_, c, update_rows_, to);
  }
  kernels::add_product(rows, columns, n, write_, 1, rows, update_rows_, columns, state, columns);
  if (call_.gates && n > 1) scale_rows(factor_ + std::ptrdiff_t(n - 1) * call_.gates, state);
}

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
  kernels::product(n, columns, rows, write_, rows, 1, dstate, columns, dupdate_, columns);
  kernels::product(n, rows, columns, update_rows_, columns, 1, dstate_turned_, rows, dwrite, rows);
  for (int h = 0; h < chunk_.heads; ++h) {
    const T *read = of_head(read_, h, rows), *up = of_head(dout, h, columns);
    T* dread = of_head(g.query, h, rows);
    // out = Q~ R_0 + tril(Q~ K~^T) U
    lower_product(n, rows, read, write_turned_, pairs_, c, false);
    add_lower_turned_times(n, columns, pairs_, c, up, dupdate_);
    lower_product(n, columns, up, update_turned_, dpairs_, c, false);
    kernels::product(n, rows, columns, up, columns, 1, begin_turned_, rows, dread, rows);
    add_lower_times(n, rows, dpairs_, c, write_, dread);
    add_lower_turned_times(n, rows, dpairs_, c, read, dwrite);
    kernels::add_product(rows, columns, n, read, 1, rows, up, columns, dstate, columns);
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
  const bool delta = call_.delta;
  std::fill(dgate_, dgate_ + std::ptrdiff_t(n) * gates, T(0));
  const auto each = [&](auto f) {  // f(element of a row, factor, its gradient)
    for (int t = 0; t < n; ++t) {
      T *factor = factor_ + std::ptrdiff_t(t) * gates, *dgate = dgate_ + std::ptrdiff_t(t) * gates;
      if (gates == 1) {
        T sum = 0;
        for (int i = 0; i < rows; ++i) f(t * rows + i, *factor, sum);
        *dgate += sum;
      } else {
        for (int i = 0; i < rows; ++i) f(t * rows + i, factor[i], dgate[i]);
      }
    }
  };
  for (int h = 0; h < chunk_.heads; ++h) {
    const T* read = of_head(read_, h, rows);
    T* dread = of_head(g.query, h, rows);
    each([&](int i, T factor, T& dgate) {
      dgate += read[i] * dread[i];
      dread[i] *= factor;
    });
  }
  T* dwrite = g.key + std::ptrdiff_t(first_at_) * rows;
  each([&](int i, T factor, T& dgate) {
    dgate -= write_[i] * dwrite[i];
    dwrite[i] /= factor;
  });
  if (delta) {
    each([&](int i, T factor, T& dgate) {
      dgate += back_[i] * dback_[i];
      dwrite[i] -= factor * dback_[i];
    });
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

template class Piece<float>;
template class Piece<double>;

}  // namespace attune::engine
