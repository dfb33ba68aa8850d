// A piece opened and walked through (piece.hpp): factors of its gates, the triangular system of delta rules, products.
#include "attention/linear/piece.hpp"

#include <algorithm>
#include <cmath>

#include "attention/linear/triangle.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"

namespace attune::engine {
namespace {

/// Gates of a piece may add up to this much: e^G keeps its digits (a sum of 8 in float32 is known to 5e-7).
template <class T>
constexpr T kGateLimit = sizeof(T) == 4 ? 8 : 32;

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
  dots_ = arena.take<T>(b * (2 * rows + c));
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
    exponentials<T>(gates, chunk.decay + std::ptrdiff_t(first) * gates, first_);
    exponentials(std::int64_t(tokens_) * gates, gate_sum_, factor_);
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
  kernels::add_product(n, columns, rows, back_, rows, 1, state, columns, error_, columns, ahead_);
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
    kernels::product(n, columns, rows, read, rows, 1, state, columns, to, columns, ahead_);
    add_lower_times(n, columns, pairs_, c, update_rows_, to);
  }
  kernels::add_product(rows, columns, n, write_, 1, rows, update_rows_, columns, state, columns, ahead_);
  if (call_.gates && n > 1) scale_rows(factor_ + std::ptrdiff_t(n - 1) * call_.gates, state);
}

#define ATTUNE_INSTANTIATE(T)                                   \
  template Piece<T>::Piece(const LinearCall<T>&, Arena&, bool); \
  template int Piece<T>::open(const Chunk<T>&, int, bool);      \
  template void Piece<T>::forward(T*, T*);                      \
  template void Piece<T>::solve(const T*);                      \
  template void Piece<T>::scale_rows(const T*, T*) const;
ATTUNE_INSTANTIATE(float)
ATTUNE_INSTANTIATE(double)
#undef ATTUNE_INSTANTIATE

}  // namespace attune::engine
