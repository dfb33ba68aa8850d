// Soft cap: logits = cap * tanh(logits / cap).  Gemma 2, arXiv:2408.00118
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// cap > 0 in nats; 0 switches it off.
struct SoftCap {
  static constexpr std::string_view name = "soft_cap";
  static constexpr std::string_view source = "arXiv:2408.00118", cost = "1 tanh a pair";
  static constexpr bool saves = true;
  double cap = 30;

  void options(StageOptions& visit) { visit("cap", cap); }
  void check(const AttendShape&) const;
  template <class T>
  void apply(Tile<T>& x, Tile<T>* saved, Call<T>&) const {
    if (cap == 0) return;
    const T c = T(cap), inverse = T(1 / cap);
    if constexpr (std::is_same_v<T, float>) return detail::soft_cap(x, c, saved);
    if (saved) {
      // 1 - tanh(z)^2 = 4 e / (1 + e)^2 with e = exp(-2 |z|): free of the difference's cancellation.
      each(x, *saved, [=](T& s, T& slope) {
        const T z = s * inverse, e = exp(z > T(0) ? T(-2) * z : T(2) * z), h = T(1) + e;
        slope = T(4) * e / (h * h);
      });
    }
    each(x, [=](T& s, int, int) { s = c * tanh(s * inverse); });
  }
  template <class T>
  void backward(const Tile<T>* saved, Tile<T>& dx, Call<T>&) const {
    if (cap != 0) multiply(dx, *saved);
  }
};

}  // namespace attune
