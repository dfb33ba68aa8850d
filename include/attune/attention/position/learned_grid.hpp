// Learned positions of a grid, read at another size: the table of a vision transformer trained on table_height x
// table_width patches is interpolated to grid_height x grid_width. "An image is worth 16x16 words", arXiv:2010.11929
// (section 3.2). A table of one row does the same for sequences.
//
//     token += sum of weight * table rows, 4 x 4 of them (bicubic, a = -0.75) or 2 x 2 (bilinear); pixel centres are
//     aligned: patch i of n looks at (i + 1/2) * table / n - 1/2, and rows beyond the rim are those at the rim
#pragma once
#include <array>
#include <span>
#include <string_view>

#include "attune/attention/position/grid.hpp"
#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

enum class Interpolation : std::uint8_t { bilinear, bicubic };
inline std::span<const std::string_view> option_names(Interpolation) {
  static constexpr std::array<std::string_view, 2> names = {"bilinear", "bicubic"};
  return names;
}

/// Parameter: table [prefix_tokens + table_height * table_width, D], one for all heads and both sides: rows of the
/// prefix tokens (read as they are) first, then the grid row by row. Positions must lie in 0 .. prefix_tokens +
/// grid_height * grid_width - 1.
struct LearnedGrid {
  static constexpr std::string_view name = "learned_grid";
  static constexpr std::string_view source = "arXiv:2010.11929", cost = "4 or 16 additions a row";
  int table_height = 0, table_width = 0, grid_height = 0, grid_width = 0;  // patches; 0: as the other, then the keys'
  int prefix_tokens = 0;
  Interpolation interpolation = Interpolation::bicubic;

  void options(StageOptions& visit) {
    visit("table_height", table_height), visit("table_width", table_width);
    visit("grid_height", grid_height), visit("grid_width", grid_width);
    visit("prefix_tokens", prefix_tokens), visit("interpolation", interpolation);
  }
  void fit(const AttendShape&);
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"table", {prefix_tokens + table_height * table_width, shape.key_dim}, Per::call, Start::normal(0.02)}};
  }
  int width(Side, int dim) const { return dim; }

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    const int first = position(side, area, rows.rows), dim = rows.cols;
    for (int r = 0; r < rows.rows; ++r) {
      for (int d = 0; d < dim; ++d) out[r][d] = rows[r][d];
      each_share(first + r, [&](std::ptrdiff_t row, double weight) {
        const T w = T(weight), *table = call.parameter[0].value + row * dim;
        for (int d = 0; d < dim; ++d) out[r][d] += w * table[d];
      });
    }
  }
  template <class T>
  void map_backward(Side side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    const int first = position(side, area, dout.rows), dim = dout.cols;
    detail::add_rows(dout, drows);
    for (int r = 0; r < dout.rows; ++r) {
      each_share(first + r, [&](std::ptrdiff_t row, double weight) {
        const T w = T(weight);
        T* dtable = call.parameter[0].grad + row * dim;
        for (int d = 0; d < dim; ++d) dtable[d] += w * dout[r][d];
      });
    }
  }

 private:
  /// The rows of the table along one axis that a patch reads, and how much of each.
  struct Taps {
    int count = 0;
    std::array<int, 4> index{};
    std::array<double, 4> weight{};
  };
  Taps taps(int at, int grid, int table) const;
  /// Position of the first of n rows; throws Error if one lies outside of the grid.
  int position(Side side, const Area& area, int n) const;
  /// Calls f(row of the table, weight) for all rows that make up the position.
  template <class F>
  void each_share(int position, F f) const {
    if (position < prefix_tokens) return f(position, 1.0);
    const int at = position - prefix_tokens;
    const Taps y = taps(at / grid_width, grid_height, table_height), x = taps(at % grid_width, grid_width, table_width);
    for (int i = 0; i < y.count; ++i) {
      for (int j = 0; j < x.count; ++j) {
        const auto n = std::size_t(i), m = std::size_t(j);
        f(prefix_tokens + std::ptrdiff_t(y.index[n]) * table_width + x.index[m], y.weight[n] * x.weight[m]);
      }
    }
  }
};

}  // namespace attune
