// Sparsemax: the Euclidean projection of the logits onto the simplex, p = max(x - tau, 0) with sum p = 1.
// "From softmax to sparsemax", arXiv:1602.02068
//
// The threshold is found by Newton (threshold.hpp): each step but the last removes a key from the support.
#pragma once
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

struct Sparsemax {
  static constexpr std::string_view name = "sparsemax";
  static constexpr std::string_view source = "arXiv:1602.02068", cost = "a threshold a row; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    const int n = r.queries;
    detail::find_thresholds(x, n, T(1), r.max, [](T z, T& sum, T& slope) {
      sum += z > T(0) ? z : T(0);
      slope += z > T(0) ? T(1) : T(0);
    });
    for (int j = 0; j < x.area.keys; ++j) {
      T* s = x[j];
      for (int i = 0; i < n; ++i) {
        const T z = s[i] - r.max[i];
        s[i] = z > T(0) ? z : T(0);
      }
    }
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::finish_thresholds(r);
  }
  // dx = [x > tau] (dp - mean of dp over the support): the mean needs a walk of its own.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        r.sum[i] += s[i] > r.stat[i] ? T(1) : T(0);
        r.first[i] += s[i] > r.stat[i] ? d[i] : T(0);
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
        const T z = s[i] - r.stat[i];
        d[i] = z > T(0) ? d[i] - r.delta[i] : T(0);
        s[i] = z > T(0) ? z : T(0);
      }
    }
  }
};

}  // namespace attune
