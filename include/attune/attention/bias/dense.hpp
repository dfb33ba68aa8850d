// A trainable number for every pair: logits += bias[query][key]. Its gradient touches visited pairs only.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Parameter: bias, one copy [Tq, Tk] per call, batch, head or (batch, head); `per` says which of the axes B and H it
/// has. broadcast_queries: one row for all queries, [1, Tk].
struct Dense {
  static constexpr std::string_view name = "dense";
  static constexpr std::string_view source = "ONNX Attention: a float mask", cost = "1 number read a pair";
  Per per = Per::head;
  bool broadcast_queries = false;

  void options(StageOptions& visit) { visit("per", per), visit("broadcast_queries", broadcast_queries); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"bias", {broadcast_queries ? 1 : shape.num_queries, shape.num_keys}, per, Start::at(0), true}};
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>& call) const {
    const T* bias = call.parameter[0].value;
    const std::ptrdiff_t keys = x.area.shape->num_keys;
    if (broadcast_queries) {
      each(x, [=](T& s, int, int j) { s += bias[j]; });
    } else if constexpr (detail::kHasKernel<T>) {
      // The bias lies in rows of keys, the tile in rows of queries.
      detail::add_transposed(bias + x.area.query * keys + x.area.key, keys, x);
    } else {
      each(x, [=](T& s, int i, int j) { s += bias[i * keys + j]; });
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    T* grad = call.parameter[0].grad;
    const std::ptrdiff_t keys = dx.area.shape->num_keys;
    if (broadcast_queries) {
      for (int j = 0; j < dx.area.keys; ++j) grad[dx.area.key + j] += sum_lanes(dx[j], dx.area.queries);
    } else if constexpr (detail::kHasKernel<T>) {
      detail::add_transposed(dx, grad + dx.area.query * keys + dx.area.key, keys);
    } else {
      each(dx, [=](T& d, int i, int j) { grad[i * keys + j] += d; });
    }
  }
};

}  // namespace attune
