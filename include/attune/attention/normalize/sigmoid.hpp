// Sigmoid attention: p = 1 / (1 + exp(-(x + bias))); rows do not compete.
// "Theory, analysis, and best practices for sigmoid self-attention", arXiv:2409.04431
#pragma once
#include <algorithm>
#include <cmath>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Parameter: bias [H]; the paper starts it at -ln(Tk). No row statistic: `lse` is 0 for a row that sees a key.
struct Sigmoid {
  static constexpr std::string_view name = "sigmoid";
  static constexpr std::string_view source = "arXiv:2409.04431", cost = "1 exp a pair";

  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {  // at first as much mass as a softmax has
    return {{"bias", {1}, Per::head, Start::at(-std::log(double(std::max(1, shape.num_keys))))}};
  }
  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    const T bias = *call.parameter[0].value;
    if constexpr (std::is_same_v<T, float>)
      detail::sigmoid_forward(x, bias);
    else
      each(x, [=](T& s, int, int) { s = prob(s, bias); });
    for (int i = 0; i < r.queries; ++i) r.factor[i] = T(1);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = T(0);
    }
  }
  // dp/dx = p (1 - p), and the same for the bias.
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>&, Call<T>& call) const {
    const T bias = *call.parameter[0].value;
    if constexpr (std::is_same_v<T, float>) {
      detail::sigmoid_backward(x, dp, bias);
    } else {
      each(x, dp, [=](T& s, T& d) {
        const T p = prob(s, bias);
        s = p;
        d = p * (T(1) - p) * d;
      });
    }
    *call.parameter[0].grad += sum_each(dp, [](T& d, int, int) { return d; });
  }

 private:
  // e^-|z| never overflows; 1 - p is exact enough either way.
  template <class T>
  static T prob(T x, T bias) {
    const T z = x + bias, e = exp(z < T(0) ? z : -z);
    return (z < T(0) ? e : T(1)) / (T(1) + e);
  }
};

}  // namespace attune
