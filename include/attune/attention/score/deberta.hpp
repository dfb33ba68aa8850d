// Disentangled attention: logits = (query . key + query . key_row(i - j) + key . query_row(j - i)) / sqrt(3 D), the
// terms content to content, content to position and position to content. "DeBERTa: decoding-enhanced BERT with
// disentangled attention", arXiv:2006.03654
//
// The distance d gets row clamp(d + max_distance, 0, 2 max_distance - 1), as in the paper. There the rows are one
// learned table times a head's projections of keys and of queries; here they are given as such, so the tables may be
// that product, or learned themselves.
#pragma once
#include <cmath>
#include <string_view>

#include "attune/attention/score/relative.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Parameters: key_table and query_table [H, 2 max_distance, D]. Query and key of one width D.
struct Deberta {
  static constexpr std::string_view name = "deberta";
  static constexpr std::string_view source = "arXiv:2006.03654",
                                    cost = "D multiply-adds a pair, 2 D more where not clipped";
  int max_distance = 128;    // tokens, k in the paper
  bool as_released = false;  // query_row(i - j) instead of query_row(j - i)

  void options(StageOptions& visit) { visit("max_distance", max_distance), visit("as_released", as_released); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"key_table", {2 * max_distance, shape.key_dim}, Per::head},
            {"query_table", {2 * max_distance, shape.query_dim}, Per::head}};
  }
  // The scale goes into the query rows, and into the one term without a query.
  int width(Side side, int dim) const { return side == Side::query ? dim : 0; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    dot(rows.cols).map(side, rows, out, area, call);
  }
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    dot(rows.cols).map_backward(side, rows, dout, drows, area, call);
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
    detail::add_query_relative(f, to_position(), call.parameter[0].value, x, call);
    detail::add_key_relative(f, from_position(), call.parameter[1].value, T(scale(f.key.cols)), x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(f, dx, df, call);
    detail::add_query_relative_backward(f, to_position(), call.parameter[0], dx, df, call);
    detail::add_key_relative_backward(f, from_position(), call.parameter[1], T(scale(f.key.cols)), dx, df, call);
  }

 private:
  static double scale(int dim) { return 1 / std::sqrt(3.0 * dim); }
  static ScaledDot dot(int dim) { return {.scale = scale(dim)}; }
  detail::Clipped to_position() const { return {-1, max_distance, 2 * max_distance}; }
  detail::Clipped from_position() const { return {as_released ? -1 : 1, max_distance, 2 * max_distance}; }
};

}  // namespace attune
