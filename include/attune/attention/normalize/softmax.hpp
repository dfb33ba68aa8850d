// Softmax over the visible keys, online.  arXiv:1706.03762, arXiv:1805.02867
#pragma once
#include <string_view>

#include "attune/attention/online_softmax.hpp"

namespace attune {

struct Softmax {
  static constexpr std::string_view name = "softmax";
  static constexpr std::string_view source = "arXiv:1805.02867", cost = "1 exp a pair";
  static constexpr bool gives_lse = true;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    if (r.statistics) add_moments(x, r);
    if constexpr (detail::kHasKernel<T>) {
      detail::softmax_forward(x, r.max, r.sum, r.factor);
    } else {
      T top[kLanes] = {};
      largest(x, r, top);
      raise_maximum(r, top);
      each_row(x, [&](T* s, int n) {
        for (int i = 0; i < n; ++i) {
          s[i] = exp(s[i] - top[i]);
          r.sum[i] += s[i];
        }
      });
    }
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      // sum = 0 where every logit is -inf although some are visible: no weight, no output.
      const bool seen = r.sum[i] > T(0) || r.sum[i] != r.sum[i];
      r.factor[i] = seen ? T(1) / r.sum[i] : T(0);
      r.stat[i] = seen ? r.max[i] + log(r.sum[i]) : kHidden<T>;
    }
  }
  // p = exp(x - lse), dx = p (dp - delta); with an incoming gradient of the entropy H also - dH p ((x - lse) + H).
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    if constexpr (detail::kHasKernel<T>) {
      if (!r.dentropy) return detail::softmax_backward(x, dp, r.stat, r.delta);
    }
    const int n = r.queries;
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *d = dp[j];
      const T *lse = r.stat, *delta = r.delta;
      if (r.dentropy) {
        for (int i = 0; i < n; ++i) {
          const T u = s[i] - lse[i], p = exp(u);
          // p = 0 where u = -inf: 0 * inf would be NaN.
          const T bend = p > T(0) ? r.dentropy[i] * (u + r.entropy[i]) : T(0);
          s[i] = p;
          d[i] = p * (d[i] - delta[i] - bend);
        }
      } else {
        for (int i = 0; i < n; ++i) {
          const T p = exp(s[i] - lse[i]);
          s[i] = p;
          d[i] = p * (d[i] - delta[i]);
        }
      }
    }
  }

 private:
  /// The maximum of each row with this tile. Where nothing was visible so far, 0: any finite number serves, and -inf -
  /// (-inf) would be NaN.
  template <class T>
  static void largest(const Tile<T>& x, const Rows<T>& r, T* top) {
    const int n = r.queries;
    for (int i = 0; i < n; ++i) top[i] = r.sum[i] > T(0) ? r.max[i] : kHidden<T>;
    each_row(x, [&](const T* s, int) {
      for (int i = 0; i < n; ++i) top[i] = top[i] < s[i] ? s[i] : top[i];
    });
    for (int i = 0; i < n; ++i) top[i] = top[i] == kHidden<T> ? T(0) : top[i];
  }
  /// Brings the moments to the new maximum and adds the tile's, before its logits become weights and the sum moves: a
  /// pass of its own, so that asking for statistics changes no bit of anything else.
  template <class T>
  static void add_moments(const Tile<T>& x, Rows<T>& r) {
    T top[kLanes] = {};
    largest(x, r, top);
    move_moments(r, top);
    each_row(x, [&](const T* s, int n) {
      for (int i = 0; i < n; ++i) {
        const T u = s[i] - top[i];
        const T e = s[i] == kHidden<T> ? T(0) : exp(u) * u;  // e^-inf * -inf would be NaN
        r.first[i] += e;
        r.second[i] += s[i] == kHidden<T> ? T(0) : e * u;
      }
    });
  }
};

}  // namespace attune
