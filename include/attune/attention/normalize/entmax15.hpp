// 1.5-entmax: p = max(x / 2 - tau, 0)^2 with sum p = 1. Between softmax and sparsemax: some weights are exactly 0, and
// the others fall off smoothly.  "Sparse sequence-to-sequence models", arXiv:1905.05702
#pragma once
#include <string_view>

#include "attune/attention/normalize/threshold.hpp"

namespace attune {

/// `lse` is the threshold tau. The gradient has no jump, its slope has one where a weight becomes 0.
struct Entmax15 {
  static constexpr std::string_view name = "entmax15";
  static constexpr std::string_view source = "arXiv:1905.05702";
  static constexpr std::string_view cost = "a threshold a row; products with few weights; holds 64 numbers a key";
  static constexpr Walk walk = Walk::whole_rows;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    detail::threshold_forward(detail::SquarePower(), T(0.5), x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    detail::threshold_finish(r);
  }
  template <class T>
  void support(const Tile<T>& x, const Rows<T>& r, Call<T>&, std::uint64_t* pairs) const {
    detail::threshold_support(T(0.5), x, r, pairs);
  }
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::threshold_sweep(detail::SquarePower(), T(0.5), x, dp, r);
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    detail::threshold_begin_backward(r);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>&) const {
    detail::threshold_backward(detail::SquarePower(), T(0.5), x, dp, r);
  }
};

}  // namespace attune
