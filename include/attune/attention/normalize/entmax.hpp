// alpha-entmax with a learned alpha per head: p = max((alpha - 1) x - tau, 0)^(1 / (alpha - 1)) with sum p = 1. Towards
// alpha = 1 it is softmax, at 2 sparsemax; a head chooses how sparse it is.
// "Adaptively sparse transformers", arXiv:1909.00015
#pragma once
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

/// Parameter: alpha_logit [H], any numbers; alpha = 1 + 1 / (1 + exp(-alpha_logit)), so 0 is 1.5-entmax and alpha stays
/// between 1 and 2. `lse` is the threshold tau. In float32 a weight's relative error is about 1e-7 / (alpha - 1).
struct Entmax {
  static constexpr std::string_view name = "entmax";
  static constexpr std::string_view source = "arXiv:1909.00015";
  static constexpr std::string_view cost = "a threshold a row: 1 log and exp a pair and step; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  std::vector<ParameterSpec> parameters(const AttendShape&) const { return {{"alpha_logit", {1}, Per::head}}; }
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call), power = T(1) / scale;
    detail::find_thresholds(x, r.queries, scale, r.max, [=](T z, T& sum, T& slope) {
      const bool in = z > T(0);
      const T u = in ? z : T(1), p = exp(power * log(u));
      sum += in ? p : T(0);
      slope += in ? power * p / u : T(0);
    });
    each_row(x, [&](T* s, int n) {
      for (int i = 0; i < n; ++i) s[i] = Weight<T>(s[i], r.max[i], scale, power).prob;
    });
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::finish_thresholds(r);
  }
  // With s = p^(2 - alpha), q = s / sum s: dx = s (dp - sum q dp), and with h = p ln p
  // dalpha = (sum p dp - sum q dp) / (alpha - 1)^2 - (sum h dp - sum q dp sum h) / (alpha - 1).
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call), power = T(1) / scale;
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const Weight<T> w(s[i], r.stat[i], scale, power);
        r.sum[i] += w.slope;
        r.first[i] += w.slope * d[i];
        r.second[i] += w.prob * w.log_prob * d[i];
        r.max[i] += w.prob * w.log_prob;
      }
    }
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call);
    T dalpha = T(0);
    for (int i = 0; i < r.queries; ++i) {
      const bool seen = r.sum[i] > T(0);
      const T mean = seen ? r.first[i] / r.sum[i] : T(0);  // delta holds sum p dp so far
      if (seen) dalpha += ((r.delta[i] - mean) / scale - (r.second[i] - mean * r.max[i])) / scale;
      r.delta[i] = mean;
    }
    *call.parameter[0].grad += dalpha * scale * (T(1) - scale);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call), power = T(1) / scale;
    for (int j = 0; j < x.area.keys; ++j) {
      T *s = x[j], *d = dp[j];
      for (int i = 0; i < r.queries; ++i) {
        const Weight<T> w(s[i], r.stat[i], scale, power);
        d[i] = w.slope * (d[i] - r.delta[i]);
        s[i] = w.prob;
      }
    }
  }

 private:
  template <class T>
  static T alpha_minus_one(const Call<T>& call) {
    return T(1) / (T(1) + exp(-*call.parameter[0].value));
  }
  /// p, p^(2 - alpha) = p / u and ln p at one logit; 0 each outside of the support. A NaN stays one.
  template <class T>
  struct Weight {
    T prob, slope, log_prob;
    Weight(T x, T tau, T scale, T power) {
      const T z = x * scale - tau;
      const bool out = z <= T(0);
      const T u = out ? T(1) : z, l = power * log(u), p = exp(l);
      prob = out ? T(0) : p;
      slope = out ? T(0) : p / u;
      log_prob = out ? T(0) : l;
    }
  };
};

}  // namespace attune
