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
  static constexpr std::string_view cost =
      "a threshold a row: 1 log and exp a weight and step; products with few weights; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"alpha_logit", {1}, Per::head, Start::at(0)}};
  }
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call);
    detail::threshold_forward(detail::AnyPower<T>(scale), scale, x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::threshold_finish(r);
  }
  template <class T>
  void support(const Tile<T>& x, const Rows<T>& r, Call<T>& call, std::uint64_t* pairs) const {
    detail::threshold_support(alpha_minus_one(call), x, r, pairs);
  }
  // With q = s / sum s and h = p / (alpha - 1) - p ln p, dalpha = (sum h dp - sum q dp sum h) / (alpha - 1): a number
  // added to all dp cancels in it, however exactly the weights sum to 1.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call);
    if constexpr (std::is_same_v<T, float>) {
      detail::threshold_sweep(scale, x, dp, r, true);
    } else {
      const detail::AnyPower<T> power(scale);
      detail::threshold_sweep(power, scale, x, dp, r);
      for (int j = 0; j < x.area.keys; ++j) {
        for (int i = 0; i < r.queries; ++i) {
          const T p = detail::Weighed<T>(power, x[j][i], scale, r.stat[i]).p;
          const T h = p == T(0) ? T(0) : p / scale - p * log(p);
          r.max[i] += h;
          r.second[i] += p == T(0) ? T(0) : h * dp[j][i];
        }
      }
    }
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call);
    T dalpha = T(0);
    for (int i = 0; i < r.queries; ++i) {
      const bool seen = r.sum[i] > T(0);
      r.delta[i] = seen ? r.first[i] / r.sum[i] : T(0);
      if (seen) dalpha += (r.second[i] - r.delta[i] * r.max[i]) / scale;
    }
    *call.parameter[0].grad += dalpha * scale * (T(1) - scale);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    const T scale = alpha_minus_one(call);
    detail::threshold_backward(detail::AnyPower<T>(scale), scale, x, dp, r);
  }

 private:
  template <class T>
  static T alpha_minus_one(const Call<T>& call) {
    return T(1) / (T(1) + exp(-*call.parameter[0].value));
  }
};

}  // namespace attune
