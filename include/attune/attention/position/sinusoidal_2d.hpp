// Sinusoidal position of image patches, added to queries and keys: of D numbers the first half tells the column, the
// second the row, each by D / 4 sines and D / 4 cosines. "An empirical study of training self-supervised vision
// transformers", arXiv:2104.02057, in the order of "Masked autoencoders are scalable vision learners",
// arXiv:2111.06377.
#pragma once
#include <string_view>

#include "attune/attention/position/grid.hpp"
#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

/// Number k of each D / 4 has the frequency base^(-4 k / D). D: a multiple of 4. Patches stand row by row, grid_width
/// in a row, behind prefix_tokens to which nothing is added.
struct Sinusoidal2d {
  static constexpr std::string_view name = "sinusoidal_2d";
  static constexpr std::string_view source = "arXiv:2111.06377", cost = "1 addition a row";
  double base = 10000;
  int grid_width = 0, prefix_tokens = 0;  // patches, tokens

  void options(StageOptions& visit) {
    visit("base", base), visit("grid_width", grid_width), visit("prefix_tokens", prefix_tokens);
  }
  void fit(const AttendShape& s) {
    if (grid_width == 0) grid_width = detail::fitting_width(s.num_keys - prefix_tokens);
  }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
  /// Radians a row or a column of number k.
  double frequency(int k, int dim) const;

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    const int dim = rows.cols, quarter = dim / 4, position = detail::first_position(side == Side::query, area);
    detail::Turns& t = detail::turns_of<Sinusoidal2d>({base, double(dim)}, 2 * quarter, false, [&](auto& made) {
      for (int k = 0; k < 2 * quarter; ++k) made.frequency[std::size_t(k)] = frequency(k % quarter, dim);
    });
    detail::each_grid_turn(t, position, rows.rows, grid_width, prefix_tokens,
                           [&](int r, int n, int moving, bool in_grid) {
                             detail::add_grid_waves(t, moving, in_grid, rows.part(r, n), out.part(r, n));
                           });
  }
  template <class T>
  void map_backward(Side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area&, Call<T>&) const {
    detail::add_rows(dout, drows);
  }
};

}  // namespace attune
