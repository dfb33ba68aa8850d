// alpha-entmax with a learned alpha per head: p = max((alpha - 1) x - tau, 0)^(1 / (alpha - 1)) with sum p = 1. Towards
// alpha = 1 it is softmax, at 2 sparsemax; a head chooses how sparse it is.
// "Adaptively sparse transformers", arXiv:1909.00015
#pragma once
#include <bit>
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

namespace detail {
/// ln x for x > 0, relative error about 2e-7 in float32, where loops over it vectorise; a NaN stays one.
template <class T>
T log_of_positive(T x) {
  return log(x);
}
inline float log_of_positive(float x) {
  // x = 2^n m with m from sqrt(1/2) to sqrt(2): the shift rounds n down from the first m of the range.
  const int bits = std::bit_cast<int>(x), n = (bits - 0x3f3504f3) >> 23;
  const float f = std::bit_cast<float>(bits - n * (1 << 23)) - 1.0f, z = f * f, e = float(n);
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  // ln 2 in two parts: n times the first is exact.
  const float y = f + (p * f * z - e * 2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
  return x != x ? x : y;
}
}  // namespace detail

/// Parameter: alpha_logit [H], any numbers; alpha = 1 + 1 / (1 + exp(-alpha_logit)), so 0 is 1.5-entmax and alpha stays
/// between 1 and 2. `lse` is the threshold tau. In float32 a weight's relative error is about 1e-7 / (alpha - 1).
struct Entmax {
  static constexpr std::string_view name = "entmax";
  static constexpr std::string_view source = "arXiv:1909.00015";
  static constexpr std::string_view cost = "a threshold a row: 1 log and exp a pair and step; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"alpha_logit", {1}, Per::head, Start::at(0)}};
  }
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call), power = T(1) / scale;
    detail::find_thresholds(x, r.queries, scale, r.max, [=](T z, T& sum, T& slope) {
      const bool in = z > T(0);
      const T u = in ? z : T(1), p = exp(power * detail::log_of_positive(u));
      sum += in ? p : T(0);
      slope += in ? power * p / u : T(0);
    });
    T tau[kLanes] = {};
    for (int i = 0; i < r.queries; ++i) tau[i] = r.max[i];
    each_row(x, [&](T* s, int n) {
      for (int i = 0; i < n; ++i) s[i] = Weight<T>(s[i], tau[i], scale, power).prob;
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
    const int n = r.queries;
    T slopes[kLanes] = {}, slope_dp[kLanes] = {}, bend[kLanes] = {}, bend_dp[kLanes] = {};
    for (int j = 0; j < x.area.keys; ++j) {
      const T *s = x[j], *d = dp[j];
      for (int i = 0; i < n; ++i) {
        const Weight<T> w(s[i], r.stat[i], scale, power);
        const T h = w.prob * w.log_prob;
        slopes[i] += w.slope;
        slope_dp[i] += w.slope * d[i];
        bend[i] += h;
        bend_dp[i] += h * d[i];
      }
    }
    for (int i = 0; i < n; ++i) {
      r.sum[i] += slopes[i];
      r.first[i] += slope_dp[i];
      r.second[i] += bend_dp[i];
      r.max[i] += bend[i];
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
      const T u = out ? T(1) : z, l = power * detail::log_of_positive(u), p = exp(l);
      prob = out ? T(0) : p;
      slope = out ? T(0) : p / u;
      log_prob = out ? T(0) : l;
    }
  };
};

}  // namespace attune
