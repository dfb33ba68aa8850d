// Thresholds of whole rows: tau with sum over the keys of g(scale x - tau) = 1, for g that is 0 below 0, rises from
// there without bending down, and has g(1) = 1. Sparsemax, entmax-1.5 and alpha-entmax are such rows.
//
// The sum falls in tau and is convex. Newton from tau = scale max x - 1, where it is at least 1, stays left of the
// root, rises monotonically and ends once tau moves no more: no sorting, 5 to 15 steps. While the sum is large a step
// divides it by e or more, so that part takes at most ln(keys) steps; the rest is quadratic.
#pragma once
#include "attune/attention/stage.hpp"

namespace attune::detail {

/// A row that has converged keeps its threshold, however long the others of its block take: its bits are its own. On
/// duals one more step carries the exact tangent.
template <class T>
T converged(T tau, T) {
  return tau;
}
template <class S>
Dual<S> converged(Dual<S> tau, Dual<S> next) {
  return {tau.v, next.d};
}

/// x [keys][queries] logits, all visited keys of the rows, -inf where hidden; result [queries]: tau, 0 for a row
/// without a key. add(z, sum, slope): sum += g(z), slope += g'(z), both by selection: z is NaN on the duals of hidden
/// logits.
template <class T, class Add>
void find_thresholds(const Tile<T>& x, int n, T scale, T* result, Add add) {
  constexpr int kMostSteps = 60;
  T tau[kLanes] = {}, excess[kLanes] = {}, slope[kLanes] = {};  // here, where nothing else can be written to
  for (int i = 0; i < n; ++i) tau[i] = kHidden<T>;
  for (int j = 0; j < x.area.keys; ++j) {
    const T* s = x[j];
    for (int i = 0; i < n; ++i) tau[i] = tau[i] < s[i] ? s[i] : tau[i];
  }
  for (int i = 0; i < n; ++i) tau[i] = tau[i] == kHidden<T> ? T(0) : tau[i] * scale - T(1);
  for (int step = 0, last = kMostSteps; step < last; ++step) {
    for (int i = 0; i < n; ++i) {
      excess[i] = T(-1);
      slope[i] = T(0);
    }
    for (int j = 0; j < x.area.keys; ++j) {
      const T* s = x[j];
      for (int i = 0; i < n; ++i) add(s[i] * scale - tau[i], excess[i], slope[i]);
    }
    bool moved = false;
    for (int i = 0; i < n; ++i) {
      if (!(slope[i] > T(0))) continue;
      const T next = tau[i] + excess[i] / slope[i];
      const bool rises = next > tau[i];
      moved = moved || rises;
      tau[i] = rises ? next : converged(tau[i], next);
    }
    // On duals one more step after convergence carries the exact tangent.
    if (!moved && last == kMostSteps) last = step + 2;
  }
  for (int i = 0; i < n; ++i) result[i] = tau[i];
}

/// finish of such a row: the weights are as they should be, and the threshold is kept. forward left it in rows.max.
template <class T>
void finish_thresholds(Rows<T>& r) {
  for (int i = 0; i < r.queries; ++i) {
    r.factor[i] = T(1);
    r.stat[i] = r.max[i];
  }
}

}  // namespace attune::detail
