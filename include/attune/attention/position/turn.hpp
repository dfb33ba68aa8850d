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

/// Calls f(r) with t at position first + r, for r = 0 .. n-1.
template <class F>
void each_turn(Turns& t, int first, int n, F f) {
  for (int r = 0; r < n; ++r) {
    if (r % kTurnRestart == 0)
      t.start(first + r, 0, t.pairs());
    else
      t.advance(0, t.pairs());
    f(r);
  }
}

/// Where the numbers of pair k stand among `dim`: (2 k, 2 k + 1) if interleaved, else (k, k + dim / 2).
struct TurnPairs {
  int dim;
  bool interleaved;
};

/// y = x turned: (x1, x2) -> (x1 c - x2 s, x1 s + x2 c); with kBack y += x turned back, which is its transpose. What no
/// pair holds stays.
template <bool kBack, class T>
void turn_row(const T* __restrict x, T* __restrict y, int cols, TurnPairs pairs, const Turns& t) {
  const int half = pairs.dim / 2;
  const double* __restrict cos = t.cos.data(), * __restrict sin = t.sin.data();
  const auto put = [](T& to, T value) {
    if constexpr (kBack)
      to += value;
    else
      to = value;
  };
  const auto turn = [&](int a, int b, int k) {
    const T x1 = x[a], x2 = x[b], c = T(cos[k]), s = T(kBack ? -sin[k] : sin[k]);
    put(y[a], x1 * c - x2 * s);
    put(y[b], x1 * s + x2 * c);
  };
  if (pairs.interleaved) {
    for (int k = 0; k < half; ++k) turn(2 * k, 2 * k + 1, k);
  } else {
    for (int k = 0; k < half; ++k) turn(k, k + half, k);
  }
  for (int c = pairs.dim; c < cols; ++c) put(y[c], x[c]);
}

/// Rows turned by what the stage says: its pairs(dim), and each_turn(side, area, rows, dim, f), which calls f(r, turns)
/// for every row. map is this without kBack, map_backward with it.
template <bool kBack, class Stage, class T>
void turn_rows(const Stage& stage, Side side, Matrix<const T> x, Matrix<T> y, const Area& area) {
  const TurnPairs pairs = stage.pairs(x.cols);
  stage.each_turn(side, area, x.rows, pairs.dim,
                  [&](int r, const Turns& t) { turn_row<kBack>(x[r], y[r], x.cols, pairs, t); });
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
