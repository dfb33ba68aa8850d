// Location-based score: logits = W_a query, a row of W_a for every key position; the keys' contents play no part.
// "Effective approaches to attention-based neural machine translation" (score "location"), arXiv:1508.04025
#pragma once
#include <algorithm>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Parameter: weight [H, num_positions, query_dim], num_positions at least the number of keys. The gradient of the keys
/// is 0. Key and query may differ in width.
struct LocationBased {
  static constexpr std::string_view name = "location";
  static constexpr std::string_view source = "arXiv:1508.04025", cost = "D multiply-adds a pair";
  int num_positions = 0;

  void options(StageOptions& visit) { visit("num_positions", num_positions); }
  void fit(const AttendShape& shape) { num_positions = std::max(num_positions, shape.num_keys); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"weight", {num_positions, shape.query_dim}, Per::head, {}, true}};
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    const int dim = f.query.rows;
    product(x.area.keys, x.area.queries, dim, call.parameter[0].value + std::ptrdiff_t(x.area.key) * dim, dim, 1,
            f.query.data, f.query.stride, x.data, x.stride, call.ahead);
  }
  // dquery += W^T dx, dW += dx query^T.
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    const int queries = dx.area.queries, keys = dx.area.keys, dim = f.query.rows;
    const std::ptrdiff_t first = std::ptrdiff_t(dx.area.key) * dim;
    const T* g = dx.data;
    add_product(dim, queries, keys, call.parameter[0].value + first, 1, dim, g, dx.stride, df.query.data,
                df.query.stride, call.ahead);
    add_product(keys, dim, queries, g, dx.stride, 1, f.query_rows.data, f.query_rows.stride,
                call.parameter[0].grad + first, dim, call.ahead);
  }
};

}  // namespace attune
