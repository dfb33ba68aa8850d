// Stick-breaking attention: every key takes the share sigmoid(x) of what the keys after it have left of a stick of
// length 1,
//
//     p_j = b_j prod over k > j of (1 - b_k),   b = 1 / (1 + exp(-x)),
//
// so that recent keys come first without any position. "Scaling stick-breaking attention", arXiv:2410.17980
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {
// The library's kernels on tiles: src/attention/normalizer_tiles.cpp.
void stick_breaking_forward(const Tile<float>& x, Rows<float>& r);
void stick_breaking_backward(const Tile<float>& x, const Tile<float>& dp, Rows<float>& r);
}  // namespace detail

/// Meant for Causal{}; the paper's queries do not see their own key, which AttendOptions::offset = {-1} says. Weights
/// sum to at most 1. `lse` is what is left of the stick, 0 to 1. Products instead of logarithms: each factor is exact
/// to rounding, and what underflows is 0.
struct StickBreaking {
  static constexpr std::string_view name = "stick_breaking";
  static constexpr std::string_view source = "arXiv:2410.17980", cost = "1 exp and a division a pair";
  static constexpr Walk walk = Walk::last_key_first;

  // sum: what is left; second: 1 once that has begun.
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    begin(r);
    const int n = r.queries;
    for (int i = 0; i < n; ++i) r.factor[i] = T(1);
    if constexpr (std::is_same_v<T, float>) return detail::stick_breaking_forward(x, r);
    T left[kLanes] = {};  // here, where nothing else can be written to
    for (int i = 0; i < n; ++i) left[i] = r.sum[i];
    for (int j = x.area.keys - 1; j >= 0; --j) {
      T* s = x[j];
      for (int i = 0; i < n; ++i) {
        const Break<T> b(s[i]);
        s[i] = b.takes * left[i];
        left[i] *= b.leaves;
      }
    }
    for (int i = 0; i < n; ++i) r.sum[i] = left[i];
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    begin(r);
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = r.sum[i];
    }
  }
  // A longer piece here leaves less to all keys before: dx_j = p_j dp_j - b_j sum over k <= j of p_k dp_k. That sum is
  // delta less what the walk has passed: first.
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    begin(r);
    if constexpr (std::is_same_v<T, float>) return detail::stick_breaking_backward(x, dp, r);
    for (int j = x.area.keys - 1; j >= 0; --j) {
      T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const Break<T> b(s[i]);
        const T p = b.takes * r.sum[i], pd = p * d[i];
        d[i] = pd - b.takes * (r.delta[i] - r.first[i]);
        r.first[i] += pd;
        s[i] = p;
        r.sum[i] *= b.leaves;
      }
    }
  }

 private:
  /// b and 1 - b; e^-|x| never overflows.
  template <class T>
  struct Break {
    T takes, leaves;
    explicit Break(T x) {
      const bool low = x < T(0);
      const T e = exp(low ? x : -x), share = T(1) / (T(1) + e), rest = e * share;
      takes = low ? rest : share;
      leaves = low ? share : rest;
    }
  };
  template <class T>
  static void begin(Rows<T>& r) {
    for (int i = 0; i < r.queries; ++i) {
      r.sum[i] = r.second[i] > T(0) ? r.sum[i] : T(1);
      r.second[i] = T(1);
    }
  }
};

}  // namespace attune
