// Softmax off by one: p = exp(x) / (1 + sum exp(x)), a sink of 0 that is not learned. A head may give nothing.
// "Efficient streaming language models with attention sinks" (SoftMax1), arXiv:2309.17453
#pragma once
#include <string_view>

#include "attune/attention/normalize/softmax_with_sink.hpp"

namespace attune {

/// lse and entropy count the 1 as one more key with the logit 0: lse is never negative.
struct SoftmaxOffByOne {
  static constexpr std::string_view name = "softmax_off_by_one";
  static constexpr std::string_view source = "arXiv:2309.17453", cost = "1 exp a pair";
  static constexpr bool gives_lse = true;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>& call) const {
    Softmax{}.forward(x, r, call);
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>& call) const {
    detail::finish_with_sink(T(0), r, call);
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dp, Rows<T>& r, Call<T>& call) const {
    Softmax{}.backward(x, dp, r, call);
  }
};

}  // namespace attune
