// 1.5-entmax: p = max(x / 2 - tau, 0)^2 with sum p = 1. Between softmax and sparsemax: some weights are exactly 0, and
// the others fall off smoothly.  "Sparse sequence-to-sequence models", arXiv:1905.05702
#pragma once
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

/// `lse` is the threshold tau. The gradient has no jump, its slope has one where a weight becomes 0.
struct Entmax15 {
  static constexpr std::string_view name = "entmax15";
  static constexpr std::string_view source = "arXiv:1905.05702", cost = "a threshold a row; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    detail::find_thresholds(x, r.queries, T(0.5), r.max, [](T z, T& sum, T& slope) {
      const T u = z > T(0) ? z : T(0);
      sum += u * u;
      slope += T(2) * u;
    });
    each_row(x, [&](T* s, int n) {
      for (int i = 0; i < n; ++i) {
        const T u = root(s[i], r.max[i]);
        s[i] = u * u;
      }
    });
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::finish_thresholds(r);
  }
  // With u = sqrt p: dx = u (dp - sum u dp / sum u). The mean needs a walk of its own.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const T u = root(s[i], r.stat[i]);
        r.sum[i] += u;
        r.first[i] += u * d[i];
      }
    }
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) r.delta[i] = r.sum[i] > T(0) ? r.first[i] / r.sum[i] : T(0);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const T u = root(s[i], r.stat[i]);
        d[i] = u * (d[i] - r.delta[i]);
        s[i] = u * u;
      }
    }
  }

 private:
  /// A NaN stays one.
  template <class T>
  static T root(T x, T tau) {
    const T z = x * T(0.5) - tau;
    return z < T(0) ? T(0) : z;
  }
};

}  // namespace attune
