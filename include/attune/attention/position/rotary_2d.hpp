// Rotary position of image patches: half of the pairs turn by the patch's row, half by its column. "Rotary position
// embedding for vision transformer", arXiv:2403.13298 (its axial form, which Qwen2-VL's vision tower uses too).
#pragma once
#include <string_view>

#include "attune/attention/position/grid.hpp"
#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

/// Of d = rotary_dim numbers (0: all of D; a multiple of 4) pair k < d / 4 turns by row * f_k and pair d / 4 + k by
/// column * f_k, f_k = base^(-4 k / d). Patches stand row by row, grid_width in a row, behind prefix_tokens that do not
/// turn. Pairs as in Rotary.
struct Rotary2d {
  static constexpr std::string_view name = "rotary_2d";
  static constexpr std::string_view source = "arXiv:2403.13298", cost = "1 turn a row";
  double base = 100;
  int grid_width = 0, prefix_tokens = 0;  // patches, tokens
  int rotary_dim = 0;
  bool interleaved = false;

  void options(StageOptions& visit) {
    visit("base", base), visit("grid_width", grid_width), visit("prefix_tokens", prefix_tokens);
    visit("rotary_dim", rotary_dim), visit("interleaved", interleaved);
  }
  void fit(const AttendShape& s) {
    if (grid_width == 0) grid_width = detail::fitting_width(s.num_keys - prefix_tokens);
  }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
  /// Radians a row or a column that pair k turns by.
  double frequency(int k, int dim) const;

  detail::TurnPairs pairs(int dim) const { return {rotary_dim ? rotary_dim : dim, interleaved}; }
  /// The angles of n rows, run by run: f(turns, first row, rows, moving). What stands in front of the grid does not
  /// turn.
  template <class F>
  void each_run(Side side, const Area& area, int n, int dim, F f) const {
    detail::Turns& t = detail::turns_of<Rotary2d>({base, double(dim)}, dim / 2, false, [&](detail::Turns& made) {
      for (int k = 0; k < dim / 2; ++k) made.frequency[std::size_t(k)] = frequency(k % (dim / 4), dim);
    });
    const int position = detail::first_position(side == Side::query, area);
    detail::each_grid_turn(t, position, n, grid_width, prefix_tokens,
                           [&](int r, int rows, int moving, bool) { f(t, r, rows, moving); });
  }

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    detail::turn_rows(*this, side, rows, out, area, false);
  }
  // The transpose of a rotation turns back.
  template <class T>
  void map_backward(Side side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>&) const {
    detail::turn_rows(*this, side, dout, drows, area, true);
  }
};

}  // namespace attune
