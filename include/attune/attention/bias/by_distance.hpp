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
  for (int j = 0; j < x.area.keys; ++j) {
    T* row = x[j];
    const T* of_row = value + d.place(j);
    for (int i = 0; i < x.area.queries; ++i) row[i] += of_row[i];
  }
}

/// Calls f(sum of dx along a diagonal, its distance) for every diagonal, in rising order.
template <class T, class F>
void each_distance(const Tile<T>& dx, Call<T>& call, F f) {
  const Diagonals d(dx.area);
  T* sum = call.scratch(std::size_t(d.count));
  for (int m = 0; m < d.count; ++m) sum[m] = T(0);
  for (int j = 0; j < dx.area.keys; ++j) {
    const T* row = dx[j];
    T* of_row = sum + d.place(j);
    for (int i = 0; i < dx.area.queries; ++i) of_row[i] += row[i];
  }
  for (int m = 0; m < d.count; ++m) f(sum[m], d.first + m);
}

}  // namespace attune::detail
