// Softmax over the visible keys, online.  arXiv:1706.03762, arXiv:1805.02867
#pragma once
#include <string_view>

#include "attune/attention/online_softmax.hpp"

namespace attune {

struct Softmax {
  static constexpr std::string_view name = "softmax";
  static constexpr bool gives_lse = true;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    const int n = r.queries;
    T top[kLanes] = {}, sum[kLanes] = {};
    for (int i = 0; i < n; ++i) {
      top[i] = r.sum[i] > T(0) ? r.max[i] : kHidden<T>;
      sum[i] = T(0);
    }
    for (int j = 0; j < x.area.keys; ++j) {
      const T* s = x[j];
      for (int i = 0; i < n; ++i) top[i] = top[i] < s[i] ? s[i] : top[i];
    }
    // Nothing visible so far: any finite number serves, and -inf - (-inf) would be NaN.
    for (int i = 0; i < n; ++i) top[i] = top[i] == kHidden<T> ? T(0) : top[i];
    raise_maximum(r, top);
    if (r.statistics) add_moments(x, r, top);
    for (int j = 0; j < x.area.keys; ++j) {
      T* s = x[j];
      for (int i = 0; i < n; ++i) {
        const T e = exp(s[i] - top[i]);
        s[i] = e;
        sum[i] += e;
      }
    }
    for (int i = 0; i < n; ++i) r.sum[i] += sum[i];
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
  template <class T>
  static void add_moments(const Tile<T>& x, Rows<T>& r, const T* top) {
    for (int j = 0; j < x.area.keys; ++j) {
      const T* s = x[j];
      for (int i = 0; i < r.queries; ++i) {
        const T u = s[i] - top[i];
        const T e = s[i] == kHidden<T> ? T(0) : exp(u) * u;  // e^-inf * -inf would be NaN
        r.first[i] += e;
        r.second[i] += s[i] == kHidden<T> ? T(0) : e * u;
      }
    }
  }
};

}  // namespace attune
