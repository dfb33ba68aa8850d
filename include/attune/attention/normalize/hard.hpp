// Hard attention with a straight-through gradient: a row gives weight 1 to its largest logit, and the gradient is that
// of softmax. On logits with Gumbel noise (a bias) it is the straight-through Gumbel-softmax.
//
//     weights = hard + softmax(x) - stop_gradient(softmax(x))
//
// "Estimating or propagating gradients through stochastic neurons", arXiv:1308.3432; "Categorical reparameterization
// with Gumbel-softmax", arXiv:1611.01144
#pragma once
#include <algorithm>
#include <string_view>

#include "attune/attention/normalize/softmax.hpp"

namespace attune {

namespace detail {
/// The number is `hard`, what it does to a tangent is `soft`.
template <class T>
T straight_through(T hard, T) {
  return hard;
}
template <class S>
Dual<S> straight_through(Dual<S> hard, Dual<S> soft) {
  return {hard.v, soft.d};
}
}  // namespace detail

/// Ties: the first key. `lse` is the place of the chosen key among the keys that the row sees, counted from 0 (exact up
/// to 2^24 keys in float32). The gradient of value is that of the hard weights. A NaN counts as largest and gives NaN.
struct Hard {
  static constexpr std::string_view name = "hard";
  static constexpr std::string_view source = "arXiv:1611.01144";
  static constexpr std::string_view cost = "2 exp and two products more a pair backward; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;
  static constexpr bool is_sparse = true;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    const int count = r.queries;
    T best[kLanes] = {}, place[kLanes] = {}, pick[kLanes] = {}, total[kLanes] = {};
    for (int i = 0; i < count; ++i) {
      best[i] = kHidden<T>;
      pick[i] = T(-1);
    }
    each_row(x, [&](const T* s, int n) {
      for (int i = 0; i < n; ++i) {
        const bool more = best[i] < s[i], number = s[i] == s[i], known = best[i] == best[i];
        const bool better = more | (known & !number);  // no &&: that is a branch
        pick[i] = better ? place[i] : pick[i];
        best[i] = better ? s[i] : best[i];
        place[i] += s[i] == kHidden<T> ? T(0) : T(1);
      }
    });
    for (int i = 0; i < count; ++i) {
      best[i] = best[i] == kHidden<T> ? T(0) : best[i];
      place[i] = T(0);
      r.max[i] = pick[i];
      r.factor[i] = T(1);
    }
    if constexpr (is_dual<T>) {
      each_row(x, [&](const T* s, int n) {
        for (int i = 0; i < n; ++i) total[i] += exp(s[i] - best[i]);
      });
    }
    each_row(x, [&](T* s, int n) {
      for (int i = 0; i < n; ++i) {
        const bool seen = !(s[i] == kHidden<T>), here = place[i] == pick[i];
        T soft = T(0);
        if constexpr (is_dual<T>) soft = seen ? exp(s[i] - best[i]) / total[i] : T(0);
        s[i] = detail::straight_through(chosen(s[i], seen & here), soft);
        place[i] += seen ? T(1) : T(0);
      }
    });
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = r.max[i];
    }
  }
  // dx = p (dp - sum p dp) with p of softmax, whose sums are a walk of their own.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const int count = r.queries;
    Tile<T> e{call.scratch(std::size_t(x.area.keys) * kLanes), kLanes, x.area};
    for (int j = 0; j < x.area.keys; ++j) std::copy_n(x[j], count, e[j]);
    Softmax{}.forward(e, r, call);
    T first[kLanes] = {};
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = e[j], *d = dp[j];
      for (int i = 0; i < count; ++i) first[i] += s[i] * d[i];
    }
    for (int i = 0; i < count; ++i) r.first[i] = r.first[i] * r.factor[i] + first[i];
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      const bool seen = r.sum[i] > T(0);
      r.delta[i] = seen ? r.first[i] / r.sum[i] : T(0);
      r.max[i] = seen ? r.max[i] + log(r.sum[i]) : T(0);
    }
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const int count = r.queries;
    T place[kLanes] = {}, pick[kLanes] = {};  // where nothing else is written to
    std::copy_n(r.second, count, place);
    std::copy_n(r.stat, count, pick);
    Tile<T> hard{call.scratch(std::size_t(x.area.keys) * kLanes), kLanes, x.area};
    for (int j = 0; j < x.area.keys; ++j) {
      const T* s = x[j];
      T* w = hard[j];
      for (int i = 0; i < count; ++i) {
        const bool seen = !(s[i] == kHidden<T>), here = place[i] == pick[i];
        w[i] = chosen(s[i], seen & here);
        place[i] += seen ? T(1) : T(0);
      }
    }
    std::copy_n(place, count, r.second);
    // Softmax's backward with the log-sum-exp that begin_backward left in max.
    Rows<T> soft = r;
    soft.stat = r.max;
    Softmax{}.backward(x, dp, soft, call);
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *w = hard[j];
      for (int i = 0; i < count; ++i) s[i] = detail::straight_through(w[i], s[i]);
    }
  }

 private:
  template <class T>
  static T chosen(T x, bool is) {
    return is ? (x == x ? T(1) : x) : T(0);
  }
};

}  // namespace attune
