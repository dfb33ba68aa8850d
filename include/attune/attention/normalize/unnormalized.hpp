// No normalizer: p = x. out = (scores) . value, which with a plain product as score is linear attention without a
// state. "Transformers are RNNs", arXiv:2006.16236, without its denominator; "Retentive network", arXiv:2307.08621
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Weights are the logits themselves, of any sign; a logit of -infinity is a hidden pair and weighs 0. No row
/// statistic: `lse` is 0 for a row that sees a key.
struct Unnormalized {
  static constexpr std::string_view name = "unnormalized";
  static constexpr std::string_view source = "arXiv:2006.16236", cost = "none";

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    each(x, [](T& s, int, int) { s = s == kHidden<T> ? T(0) : s; });
    for (int i = 0; i < r.queries; ++i) r.factor[i] = T(1);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = T(0);
    }
  }
  // dx = dp.
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>&, Call<T>&) const {
    each(x, dp, [](T& s, T& d) {
      d = s == kHidden<T> ? T(0) : d;
      s = s == kHidden<T> ? T(0) : s;
    });
  }
};

}  // namespace attune
