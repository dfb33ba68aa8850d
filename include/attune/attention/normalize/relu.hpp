// ReLU attention: p = max(x, 0)^k / n for the n keys that a row sees; rows do not compete, and the division keeps out's
// size from growing with the sequence. k = 1: Relu, k = 2: ReluSquared.
// "Replacing softmax with ReLU in vision transformers", arXiv:2309.08586
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {
template <int kPower, class T>
void relu_forward(Tile<T>& x, Rows<T>& r) {
  T count[kLanes] = {};
  each_row(x, [&](T* s, int n) {
    for (int i = 0; i < n; ++i) {
      count[i] += s[i] == kHidden<T> ? T(0) : T(1);
      const T u = s[i] < T(0) ? T(0) : s[i];  // a NaN stays one
      s[i] = kPower == 1 ? u : u * u;
    }
  });
  for (int i = 0; i < r.queries; ++i) {
    r.sum[i] += count[i];
    r.factor[i] = T(1);
  }
}
/// stat: n.
template <class T>
void relu_finish(Rows<T>& r) {
  for (int i = 0; i < r.queries; ++i) {
    r.factor[i] = r.sum[i] > T(0) ? T(1) / r.sum[i] : T(0);
    r.stat[i] = r.sum[i];
  }
}
// dx = [x > 0] k x^(k - 1) dp / n.
template <int kPower, class T>
void relu_backward(Tile<T>& x, Tile<T>& dp, const Rows<T>& r) {
  T share[kLanes] = {};
  for (int i = 0; i < r.queries; ++i) share[i] = r.stat[i] > T(0) ? T(1) / r.stat[i] : T(0);
  for (int j = 0; j < x.area.keys; ++j) {
    T *s = x[j], *d = dp[j];
    for (int i = 0; i < r.queries; ++i) {
      const T u = s[i] < T(0) ? T(0) : s[i];
      d[i] = u == T(0) ? T(0) : (kPower == 1 ? share[i] : T(2) * u * share[i]) * d[i];
      s[i] = (kPower == 1 ? u : u * u) * share[i];
    }
  }
}
}  // namespace detail

/// p = max(x, 0) / n. `lse` is n.
struct Relu {
  static constexpr std::string_view name = "relu";
  static constexpr std::string_view source = "arXiv:2309.08586", cost = "none";

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    detail::relu_forward<1>(x, r);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::relu_finish(r);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::relu_backward<1>(x, dp, r);
  }
};

/// p = max(x, 0)^2 / n. `lse` is n.
struct ReluSquared {
  static constexpr std::string_view name = "relu_squared";
  static constexpr std::string_view source = "arXiv:2309.08586", cost = "none";

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    detail::relu_forward<2>(x, r);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::relu_finish(r);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::relu_backward<2>(x, dp, r);
  }
};

}  // namespace attune
