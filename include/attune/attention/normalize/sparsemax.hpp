// Sparsemax: the Euclidean projection of the logits onto the simplex, p = max(x - tau, 0) with sum p = 1.
// "From softmax to sparsemax", arXiv:1602.02068
#pragma once
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

/// `lse` is the threshold tau. dx = dp less its mean over the support, 0 outside of it.
struct Sparsemax {
  static constexpr std::string_view name = "sparsemax";
  static constexpr std::string_view source = "arXiv:1602.02068";
  static constexpr std::string_view cost = "a threshold a row; products with few weights; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    detail::threshold_forward(detail::LinearPower(), T(1), x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::threshold_finish(r);
  }
  template <class T>
  void support(const Tile<T>& x, const Rows<T>& r, Call<T>&, std::uint64_t* pairs) const {
    detail::threshold_support(T(1), x, r, pairs);
  }
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::threshold_sweep(detail::LinearPower(), T(1), x, dp, r);
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    detail::threshold_begin_backward(r);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::threshold_backward(detail::LinearPower(), T(1), x, dp, r);
  }
};

}  // namespace attune
