// Rows with a threshold: p = max(scale x - tau, 0)^(1 / scale) with sum p = 1. What sparsemax (scale 1), entmax-1.5
// (1/2) and alpha-entmax (alpha - 1) share; they differ in the power alone.
//
// The sum over the keys falls in tau, and so does its norm sum^scale, which is convex too and a straight line where the
// support is one key or equal ones. Newton on the norm from tau = scale max x - 1, where it is at least 1, stays left
// of the root, rises monotonically and ends once tau moves no more: no sorting, three to six steps.
//
// With s = p^(2 - alpha) the gradient is dx = s (dp - sum s dp / sum s): 0 with the weight, and its mean needs a walk
// of its own. float32 has kernels (kernels/threshold.hpp), which make and count this for the support alone.
//
// The search counts from the row's largest logit m: x - m has no rounding error where it matters, and the threshold
// lies between -1 and 0 however large logits are. The way back knows tau = scale m + that number alone.
#pragma once
#include <limits>

#include "attune/attention/stage.hpp"

namespace attune::detail {

// The library's kernels on tiles: src/attention/normalizer_tiles.cpp.
void threshold_forward(float scale, Tile<float>& x, Rows<float>& r, Call<float>& call);
void threshold_pairs(float scale, const Tile<float>& x, const Rows<float>& r, std::uint64_t* pairs);
void threshold_sweep(float scale, const Tile<float>& x, const Tile<float>& dp, Rows<float>& r, bool bends);
void threshold_backward(float scale, Tile<float>& x, Tile<float>& dp, const Rows<float>& r);

/// The powers: p and s = p^(2 - alpha) from u = scale x - tau > 0, and sum^(1 - scale).
struct LinearPower {
  template <class T>
  void at(T u, T& p, T& s) const {
    p = u;
    s = T(1);
  }
  template <class T>
  T shortened(T) const {
    return T(1);
  }
};
struct SquarePower {
  template <class T>
  void at(T u, T& p, T& s) const {
    p = u * u;
    s = u;
  }
  template <class T>
  T shortened(T sum) const {
    return sqrt(sum);
  }
};
template <class T>
struct AnyPower {
  T power, rest;
  explicit AnyPower(T scale) : power(T(1) / scale), rest(T(1) - scale) {}
  void at(T u, T& p, T& s) const {
    p = exp(power * log(u));
    s = p / u;
  }
  T shortened(T sum) const { return exp(rest * log(sum)); }
};

/// p and s at one logit; 0 each outside of the support. A NaN stays one.
template <class T>
struct Weighed {
  T p, s;
  template <class P>
  Weighed(const P& power, T x, T scale, T tau) {
    const T u = x * scale - tau;
    const bool out = u <= T(0);                  // by selection: u is NaN on the duals of hidden logits
    power.at(out || u > T(1) ? T(1) : u, p, s);  // above 1 by rounding alone, of large logits on the way back
    p = out ? T(0) : p;
    s = out ? T(0) : s;
  }
};

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

/// x [keys][queries] logits, all visited keys of the rows, -inf where hidden; largest [queries] of them, and tau
/// [queries] counted from there: 0 each for a row without a key.
template <class T, class P>
void find_thresholds(const P& power, T scale, const Tile<T>& x, int n, T* largest, T* tau) {
  constexpr int kMostSteps = 60;
  T sum[kLanes] = {}, slope[kLanes] = {};
  for (int i = 0; i < n; ++i) largest[i] = kHidden<T>;
  each_row(x, [&](const T* s, int) {
    for (int i = 0; i < n; ++i) largest[i] = largest[i] < s[i] ? s[i] : largest[i];
  });
  for (int i = 0; i < n; ++i) {
    const bool none = largest[i] == kHidden<T>;
    largest[i] = none ? T(0) : largest[i];
    tau[i] = T(none ? 0 : -1);
  }
  for (int step = 0, last = kMostSteps; step < last; ++step) {
    for (int i = 0; i < n; ++i) sum[i] = slope[i] = T(0);
    each_row(x, [&](const T* s, int) {
      for (int i = 0; i < n; ++i) {
        const Weighed<T> w(power, s[i] - largest[i], scale, tau[i]);
        sum[i] += w.p == w.p ? w.p : T(0);
        slope[i] += w.s == w.s ? w.s : T(0);
      }
    });
    bool moved = false;
    for (int i = 0; i < n; ++i) {
      if (!(slope[i] > T(0))) continue;
      const T next = tau[i] + (sum[i] - power.shortened(sum[i])) / slope[i];
      const bool rises = next > tau[i];
      moved = moved || rises;
      tau[i] = rises ? next : converged(tau[i], next);
    }
    // On duals one more step after convergence carries the exact tangent.
    if (!moved && last == kMostSteps) last = step + 2;
  }
}

/// scale m + tau as one number. Where the largest logit m has all the weight, it keeps it on the way back.
template <class T>
T whole_threshold(T m, T scale, T tau) {
  const T sum = m * scale + tau;
  const bool short_of_1 = tau == T(-1) && m * scale - sum < T(1);
  return short_of_1 ? sum - abs(sum) * T(std::numeric_limits<double>::epsilon()) : sum;
}

// The members of such a normalizer.

template <class T, class P>
void threshold_forward(const P& power, T scale, Tile<T>& x, Rows<T>& r, Call<T>& call) {
  if constexpr (std::is_same_v<T, float>) {
    threshold_forward(scale, x, r, call);
  } else {
    T largest[kLanes], tau[kLanes];
    find_thresholds(power, scale, x, r.queries, largest, tau);
    each_row(x, [&](T* s, int n) {
      for (int i = 0; i < n; ++i) s[i] = Weighed<T>(power, s[i] - largest[i], scale, tau[i]).p;
    });
    for (int i = 0; i < r.queries; ++i) r.max[i] = whole_threshold(largest[i], scale, tau[i]);
  }
}
/// The weights are as they should be, and the threshold is kept: forward left it in rows.max.
template <class T>
void threshold_finish(Rows<T>& r) {
  for (int i = 0; i < r.queries; ++i) {
    r.factor[i] = T(1);
    r.stat[i] = r.max[i];
  }
}
template <class T>
void threshold_support(T scale, const Tile<T>& x, const Rows<T>& r, std::uint64_t* pairs) {
  if constexpr (std::is_same_v<T, float>) {
    threshold_pairs(scale, x, r, pairs);
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      pairs[j] = 0;
      for (int i = 0; i < r.queries; ++i) pairs[j] |= std::uint64_t(!(x[j][i] * scale - r.stat[i] <= T(0))) << i;
    }
  }
}
/// sum: sum s, first: sum s dp.
template <class T, class P>
void threshold_sweep(const P& power, T scale, const Tile<T>& x, const Tile<T>& dp, Rows<T>& r) {
  if constexpr (std::is_same_v<T, float>) {
    threshold_sweep(scale, x, dp, r, false);
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      for (int i = 0; i < r.queries; ++i) {
        const Weighed<T> w(power, x[j][i], scale, r.stat[i]);
        r.sum[i] += w.s;
        r.first[i] += w.s == T(0) ? T(0) : w.s * dp[j][i];
      }
    }
  }
}
/// delta: the mean of dp under s.
template <class T>
void threshold_begin_backward(Rows<T>& r) {
  for (int i = 0; i < r.queries; ++i) r.delta[i] = r.sum[i] > T(0) ? r.first[i] / r.sum[i] : T(0);
}
template <class T, class P>
void threshold_backward(const P& power, T scale, Tile<T>& x, Tile<T>& dp, Rows<T>& r) {
  if constexpr (std::is_same_v<T, float>) {
    threshold_backward(scale, x, dp, r);
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const Weighed<T> w(power, s[i], scale, r.stat[i]);
        d[i] = w.s == T(0) ? T(0) : w.s * (d[i] - r.delta[i]);
        s[i] = w.p;
      }
    }
  }
}

}  // namespace attune::detail
