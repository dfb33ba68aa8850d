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

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    turn(side, rows, out, area, 1.0, [](T& y, T value) { y = value; });
  }
  // The transpose of a rotation turns back.
  template <class T>
  void map_backward(Side side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>&) const {
    turn(side, dout, drows, area, -1.0, [](T& y, T value) { y += value; });
  }

 private:
  template <class T, class Put>
  void turn(Side side, Matrix<const T> x, Matrix<T> y, const Area& area, double sign, Put put) const {
    const detail::TurnPairs pairs{rotary_dim ? rotary_dim : x.cols, interleaved};
    detail::keep_rest(x, y, pairs.dim, put);
    const int position = detail::first_position(side == Side::query, area);
    for (int k = 0; k < pairs.dim / 2; ++k) {
      const bool by_row = k < pairs.dim / 4;
      const double f = frequency(by_row ? k : k - pairs.dim / 4, pairs.dim);
      detail::each_grid_run(position, x.rows, grid_width, prefix_tokens, [&](int first, int n, int row, int column) {
        const auto each = [&](int r, double c, double s) {
          detail::turn_pair(x, y, first + r, pairs, k, c, sign * s, put);
        };
        if (by_row || row < 0) {  // in a run the row stays; what stands in front of the grid does not turn
          const double angle = std::max(row, 0) * f, c = std::cos(angle), s = std::sin(angle);
          for (int r = 0; r < n; ++r) each(r, c, s);
        } else {
          detail::each_turn(column, n, f, each);
        }
      });
    }
  }
};

}  // namespace attune
