// Bilinear score: logits = query^T W key, a matrix W for every head.
// "Effective approaches to attention-based neural machine translation" (score "general"), arXiv:1508.04025
// W^T query is the row map of the query side, once per row; a pair costs a dot product. Query and key may have
// different widths. There is no scale: W learns it.
#pragma once
#include <string_view>

#include "attune/attention/score/rows.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Parameter: weight [H, query_dim, key_dim].
struct Bilinear {
  static constexpr std::string_view name = "bilinear";
  static constexpr std::string_view source = "arXiv:1508.04025", cost = "key_dim multiply-adds a pair, 1 product a row";
  static constexpr bool is_product = true;
  int key_dim = 0;  // 0: as wide as the query

  void options(StageOptions& visit) { visit("key_dim", key_dim); }
  void fit(const AttendShape& shape) { key_dim = key_dim ? key_dim : shape.key_dim; }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"weight", {shape.query_dim, shape.key_dim}, Per::head}};
  }
  int width(Side side, int dim) const { return side == Side::key ? 0 : key_dim ? key_dim : dim; }
  template <class T>
  void map(Side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>& call) const {
    product(rows.rows, out.cols, rows.cols, rows.data, rows.stride, 1, call.parameter[0].value, out.cols, out.data,
            out.stride);
  }
  // features = query W: dquery += dfeatures W^T, dW += query^T dfeatures.
  template <class T>
  void map_backward(Side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                    Call<T>& call) const {
    const int n = rows.rows, dim = rows.cols, wide = dout.cols;
    const T* turned = detail::transposed(call.parameter[0].value, dim, wide, wide, call);
    add_product(n, dim, wide, dout.data, dout.stride, 1, turned, dim, drows.data, drows.stride);
    add_product(dim, wide, n, rows.data, 1, rows.stride, dout.data, dout.stride, call.parameter[0].grad, wide);
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
