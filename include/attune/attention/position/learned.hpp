// Learned absolute position: a trainable row for every position, added to queries and keys.
#pragma once
#include <algorithm>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// Parameter: table [num_positions, D], one for all heads and both sides. Every position must lie in 0 ..
/// num_positions-1.
struct Learned {
  static constexpr std::string_view name = "learned";
  static constexpr std::string_view source = "arXiv:1705.03122", cost = "1 addition a row";
  int num_positions = 0;

  void options(StageOptions& visit) { visit("num_positions", num_positions); }
  void fit(const AttendShape& s) { num_positions = std::max({num_positions, s.num_queries, s.num_keys}); }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"table", {num_positions, shape.key_dim}, Per::call, Start::normal(0.02)}};
  }
  int width(Side, int dim) const { return dim; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    const std::ptrdiff_t first = position(side, area, rows.rows);
    const T* table = call.parameter[0].value + first * rows.cols;
    for (int r = 0; r < rows.rows; ++r) {
      for (int d = 0; d < rows.cols; ++d) out[r][d] = rows[r][d] + table[std::ptrdiff_t(r) * rows.cols + d];
    }
  }
  template <class T>
  void map_backward(Side side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    const std::ptrdiff_t first = position(side, area, dout.rows);
    T* dtable = call.parameter[0].grad + first * dout.cols;
    for (int r = 0; r < dout.rows; ++r) {
      for (int d = 0; d < dout.cols; ++d) {
        drows[r][d] += dout[r][d];
        dtable[std::ptrdiff_t(r) * dout.cols + d] += dout[r][d];
      }
    }
  }

 private:
  /// Position of the first of n rows; throws Error if one lies outside of the table.
  std::ptrdiff_t position(Side side, const Area& area, int n) const;
};

}  // namespace attune
