// What positions made of sines share: angles that grow from row to row, and the pairs of numbers that they turn.
//
// All pairs of a row are dealt with at once, in vectors; their frequencies stay with the thread from call to call.
#pragma once
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "attune/attention/stage.hpp"

namespace attune::detail {

/// Rows between exact sines: the recurrence has lost under 32 ulp of a double by then.
inline constexpr int kTurnRestart = 32;

/// The angle of each of some pairs in the row at hand, as (cos, sin) times a size, and the step from row to row. In
/// doubles: an angle may be large beside its digits.
struct Turns {
  std::vector<double> key;                 // what the frequencies were made of
  std::vector<double> frequency;           // radians a position
  std::vector<double> fade;                // ln of the size, a position; empty: none
  double amplitude = 1, middle = 0;        // size at position `middle`
  std::vector<double> cos, sin;            // of the row at hand, times its size
  std::vector<double> step_cos, step_sin;  // of a step, times its growth
  double fastest = 0;                      // the largest frequency

  int pairs() const { return int(frequency.size()); }
  /// Room for so many pairs; frequencies and fades are to be set, then steps are to be taken.
  void resize(int pairs, bool fades);
  void take_steps();
  /// Row `position` of the pairs first .. end-1.
  void start(double position, int first, int end);
  /// The row after the one at hand.
  void advance(int first, int end) {
    double* __restrict c = cos.data(), * __restrict s = sin.data();
    const double* __restrict by_cos = step_cos.data(), * __restrict by_sin = step_sin.data();
    for (int k = first; k < end; ++k) {
      const double next = c[k] * by_cos[k] - s[k] * by_sin[k];
      s[k] = s[k] * by_cos[k] + c[k] * by_sin[k];
      c[k] = next;
    }
  }
};

/// This thread's turns of a kind of stage. Where they were made of another `key`, set(turns) makes them anew.
template <class Stage, class Set>
Turns& turns_of(std::initializer_list<double> key, int pairs, bool fades, Set set) {
  thread_local Turns t;
  if (!std::equal(key.begin(), key.end(), t.key.begin(), t.key.end()) || t.pairs() != pairs) {
    t.resize(pairs, fades);
    set(t);
    t.take_steps();
    t.key = key;
  }
  return t;
}

/// Calls f(r, rows, 0) with t at position first + r for runs of n rows: the pairs from 0 on step from row to row.
template <class F>
void each_run(Turns& t, int first, int n, F f) {
  for (int r = 0; r < n; r += kTurnRestart) {
    t.start(first + r, 0, t.pairs());
    f(r, std::min(kTurnRestart, n - r), 0);
  }
}

/// Where the numbers of pair k stand among `dim`: (2 k, 2 k + 1) if interleaved, else (k, k + dim / 2).
struct TurnPairs {
  int dim;
  bool interleaved;
};

// One run of rows, compiled once for float, double and Dual<double>; the pairs from `moving` on step from row to row.
/// y = x turned: (x1, x2) -> (x1 c - x2 s, x1 s + x2 c); with `back` y += x turned back, which is its transpose. What
/// no pair holds stays.
template <class T>
void turn_run(Turns&, int moving, Matrix<const T> x, Matrix<T> y, TurnPairs, bool back);
/// y = x + (sin, cos) of pair k at the numbers 2 k and 2 k + 1.
template <class T>
void add_waves(Turns&, int moving, Matrix<const T> x, Matrix<T> y);
/// y = x + the sines of the second half of the pairs, their cosines, the sines of the first half, their cosines; x
/// alone outside of the grid.
template <class T>
void add_grid_waves(Turns&, int moving, bool in_grid, Matrix<const T> x, Matrix<T> y);

/// Rows turned by what the stage says: its pairs(dim), and each_run(side, area, rows, dim, f), which calls
/// f(turns, first row, rows, moving). map is this, map_backward the same with `back`.
template <class Stage, class T>
void turn_rows(const Stage& stage, Side side, Matrix<const T> x, Matrix<T> y, const Area& area, bool back) {
  const TurnPairs pairs = stage.pairs(x.cols);
  stage.each_run(side, area, x.rows, pairs.dim, [&](Turns& t, int first, int n, int moving) {
    turn_run(t, moving, x.part(first, n), y.part(first, n), pairs, back);
  });
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
