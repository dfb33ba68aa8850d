// Relative positions in the keys: logits = scale * query . (key + r(clip(j - i))), a learned row r for every distance.
// "Self-attention with relative position representations", arXiv:1803.02155
// The paper adds such rows to the values too; that is no score and not part of this stage.
#pragma once
#include <cmath>
#include <optional>
#include <string_view>

#include "attune/attention/score/relative.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Parameter: table [2 max_distance + 1, D], row max_distance + d for a key d places after the query, clipped at both
/// ends; one for all heads as in the paper, or one per head. Query and key of one width D.
struct Shaw {
  static constexpr std::string_view name = "shaw";
  static constexpr std::string_view source = "arXiv:1803.02155",
                                    cost = "D multiply-adds a pair, D more where not clipped";
  int max_distance = 16;  // tokens
  Per per = Per::call;
  std::optional<double> scale{};  // default: 1 / sqrt(D)

  void options(StageOptions& visit) { visit("max_distance", max_distance), visit("per", per), visit("scale", scale); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"table", {2 * max_distance + 1, shape.key_dim}, per}};
  }
  int width(Side side, int dim) const { return dot().width(side, dim); }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    dot().map(side, rows, out, area, call);
  }
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    dot().map_backward(side, rows, dout, drows, area, call);
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::dot_logits(f, x, call);
    detail::add_query_relative(f, clipped(), call.parameter[0].value, x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(f, dx, df, call);
    detail::add_query_relative_backward(f, clipped(), call.parameter[0], dx, df, call);
  }

 private:
  ScaledDot dot() const { return {.scale = scale}; }
  detail::Clipped clipped() const { return {1, max_distance, 2 * max_distance + 1}; }
};

}  // namespace attune
