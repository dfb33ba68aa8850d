// What the rotary positions share: angles that grow from row to row, and the pairs of numbers that they turn.
#pragma once
#include <cmath>
#include <cstdint>

#include "attune/attention/tile.hpp"

namespace attune::detail {

/// Rows between exact sines: the recurrence has lost under 32 ulp of a double by then.
inline constexpr int kTurnRestart = 32;

/// Calls f(r, cos, sin) with the angle (first + r) * frequency, for r = 0 .. n-1.
template <class F>
void each_turn(int first, int n, double frequency, F f) {
  const double turn_cos = std::cos(frequency), turn_sin = std::sin(frequency);
  double c = 1, s = 0;
  for (int r = 0; r < n; ++r) {
    if (r % kTurnRestart == 0) {
      c = std::cos((first + r) * frequency);
      s = std::sin((first + r) * frequency);
    } else {  // one more position: turn the pair (c, s) by the frequency
      const double next = c * turn_cos - s * turn_sin;
      s = s * turn_cos + c * turn_sin;
      c = next;
    }
    f(r, c, s);
  }
}

/// Where the numbers of pair k stand among `dim`: (2 k, 2 k + 1) if interleaved, else (k, k + dim / 2).
struct TurnPairs {
  int dim;
  bool interleaved;
  int first(int k) const { return interleaved ? 2 * k : k; }
  int second(int k) const { return interleaved ? 2 * k + 1 : k + dim / 2; }
};

/// put(y1, x1 c - x2 s), put(y2, x1 s + x2 c) of pair k in row r.
template <class T, class Put>
void turn_pair(Matrix<const T> x, Matrix<T> y, int r, TurnPairs pairs, int k, double cos, double sin, Put put) {
  const int a = pairs.first(k), b = pairs.second(k);
  const T x1 = x[r][a], x2 = x[r][b], c = T(cos), s = T(sin);
  put(y[r][a], x1 * c - x2 * s);
  put(y[r][b], x1 * s + x2 * c);
}
/// put(y, x) of what no pair holds.
template <class T, class Put>
void keep_rest(Matrix<const T> x, Matrix<T> y, int dim, Put put) {
  for (int r = 0; r < x.rows; ++r) {
    for (int c = dim; c < x.cols; ++c) put(y[r][c], x[r][c]);
  }
}

/// drows += dout: the gradient of what is added to rows.
template <class T>
void add_rows(Matrix<const T> dout, Matrix<T> drows) {
  for (int r = 0; r < dout.rows; ++r) {
    for (int d = 0; d < dout.cols; ++d) drows[r][d] += dout[r][d];
  }
}

/// Position of the first row: queries stand at index + offset, keys at their index.
inline int first_position(bool of_queries, const Area& area) {
  return of_queries ? area.query + area.offset : area.key;
}

}  // namespace attune::detail
