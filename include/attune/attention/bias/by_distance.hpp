// Biases that know nothing but how far the key is from the query: logits += f(position of query - key).
//
// Along a diagonal of the tile f is one number, so a tile of n queries and m keys asks for n + m - 1 of them; a row of
// the tile then adds n neighbours among these. In the backward the diagonals are summed first, and the chain rule is
// applied to the sums.
//
// Ladder: KERPLE over the same call without a bias, width 64, AVX-512, ns a pair forward and backward (of 2.6 and 6.3):
//     a logarithm a pair          + 3.6   + 17
//     a logarithm a diagonal      + 0.01  + 0.04
#pragma once
#include <cstddef>

#include "attune/attention/stage.hpp"

namespace attune::detail {

// x[j][i] += value[keys - 1 - j + i], and the way back: src/attention/bias_kernels.cpp.
void add_diagonals(const Tile<float>& x, const float* value);
void add_diagonals(const Tile<double>& x, const double* value);
void sum_diagonals(const Tile<float>& dx, float* sum);
void sum_diagonals(const Tile<double>& dx, double* sum);
template <class T>
void add_diagonals(const Tile<T>& x, const T* value) {
  for (int j = 0; j < x.area.keys; ++j) {
    for (int i = 0; i < x.area.queries; ++i) x[j][i] += value[x.area.keys - 1 - j + i];
  }
}
template <class T>
void sum_diagonals(const Tile<T>& dx, T* sum) {
  for (int j = 0; j < dx.area.keys; ++j) {
    for (int i = 0; i < dx.area.queries; ++i) sum[dx.area.keys - 1 - j + i] += dx[j][i];
  }
}

/// Calls f without a copy of it for every instruction set: for scalars whose speed matters less than the time to
/// compile.
template <class F>
[[gnu::noinline]] void once(const F& f) {
  f();
}

/// The distances of a tile: `first` .. first + count - 1, position of query - key. Row j of the tile begins at
/// place(j).
struct Diagonals {
  int first, count, last_key;
  explicit Diagonals(const Area& a)
      : first(a.query + a.offset - a.key - (a.keys - 1)), count(a.queries + a.keys - 1), last_key(a.keys - 1) {}
  int place(int j) const { return last_key - j; }
};

/// x += f(distance); f gives a T for an int.
template <class T, class F>
void add_by_distance(const Tile<T>& x, Call<T>& call, F f) {
  const Diagonals d(x.area);
  T* value = call.scratch(std::size_t(d.count));
  for (int m = 0; m < d.count; ++m) value[m] = f(d.first + m);
  add_diagonals(x, value);
}

/// Calls f(sum of dx along a diagonal, its distance) for every diagonal, in rising order.
template <class T, class F>
void each_distance(const Tile<T>& dx, Call<T>& call, F f) {
  const Diagonals d(dx.area);
  T* sum = call.scratch(std::size_t(d.count));
  for (int m = 0; m < d.count; ++m) sum[m] = T(0);
  sum_diagonals(dx, sum);
  for (int m = 0; m < d.count; ++m) f(sum[m], d.first + m);
}

}  // namespace attune::detail
