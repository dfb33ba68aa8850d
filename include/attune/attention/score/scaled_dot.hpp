// Scaled dot product: logits = scale * query . key.  "Attention is all you need", arXiv:1706.03762
#pragma once
#include <cmath>
#include <optional>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {
/// logits = query features . key features, for every score that ends in a dot product.
template <class T>
void dot_logits(const Features<T>& f, Tile<T>& x, Call<T>& call) {
  product(x.area.keys, x.area.queries, f.query.rows, f.key.data, f.key.stride, 1, f.query.data, f.query.stride, x.data,
          x.stride, call.ahead);
}
/// dquery += key^T dx, dkey += dx query.
template <class T>
void dot_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& d, Call<T>& call) {
  const int queries = dx.area.queries, keys = dx.area.keys, width = f.query.rows;
  const T* g = dx.data;
  add_product(width, queries, keys, f.key.data, 1, f.key.stride, g, dx.stride, d.query.data, d.query.stride,
              call.ahead);
  add_product(keys, width, queries, g, dx.stride, 1, f.query_rows.data, f.query_rows.stride, d.key.data, d.key.stride,
              call.ahead);
}
}  // namespace detail

struct ScaledDot {
  static constexpr std::string_view name = "scaled_dot";
  static constexpr std::string_view source = "arXiv:1706.03762", cost = "D multiply-adds a pair";
  static constexpr bool is_product = true;
  /// Default: 1 / sqrt(D), D the width of query and key. Any real number, negative too.
  std::optional<double> scale{};

  double scale_of(const AttendShape& shape) const { return scale ? *scale : 1.0 / std::sqrt(double(shape.key_dim)); }
  void options(StageOptions& visit) { visit("scale", scale); }
  void check(const AttendShape& shape) const;

  // The scale goes into the query rows once; keys are read where they lie.
  int width(Side side, int dim) const { return side == Side::query ? dim : 0; }
  template <class T>
  void map(Side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    const T factor = T(scale_of(*area.shape));
    if constexpr (detail::kHasKernel<T>) return detail::scaled_rows(rows, factor, out);
    for (int r = 0; r < rows.rows; ++r) {
      for (int d = 0; d < rows.cols; ++d) out[r][d] = factor * rows[r][d];
    }
  }
  template <class T>
  void map_backward(Side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area, Call<T>&) const {
    const T factor = T(scale_of(*area.shape));
    if constexpr (detail::kHasKernel<T>) return detail::add_scaled_rows(dout, factor, drows);
    for (int r = 0; r < drows.rows; ++r) {
      for (int d = 0; d < drows.cols; ++d) drows[r][d] += factor * dout[r][d];
    }
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(f, dx, df, call);
  }
};

}  // namespace attune
