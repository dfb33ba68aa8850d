// Sinusoidal position, added to queries and keys: dimension 2k gets sin(position * base^(-2k/D)), 2k+1 the cosine.
// "Attention is all you need", arXiv:1706.03762. (Added to the tokens instead, it is nn's position module.)
#pragma once
#include <cmath>
#include <string_view>

#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

struct Sinusoidal {
  static constexpr std::string_view name = "sinusoidal";
  static constexpr std::string_view source = "arXiv:1706.03762", cost = "1 addition a row";
  double base = 10000;

  void options(StageOptions& visit) { visit("base", base); }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
  /// Radians a position of the dimensions 2 k and 2 k + 1 of `dim`.
  double frequency(int k, int dim) const { return std::pow(base, -2.0 * k / dim); }
  /// The number that dimension d of `dim` gets at a position.
  double at(std::int64_t position, int d, int dim) const {
    const double angle = double(position) * frequency(d / 2, dim);
    return d % 2 ? std::cos(angle) : std::sin(angle);
  }

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    const int dim = rows.cols, half = (dim + 1) / 2;
    detail::Turns& t = detail::turns_of<Sinusoidal>({base, double(dim)}, half, false, [&](detail::Turns& made) {
      for (int k = 0; k < half; ++k) made.frequency[std::size_t(k)] = frequency(k, dim);
    });
    detail::each_run(t, detail::first_position(side == Side::query, area), rows.rows,
                     [&](int r, int n, int moving) { detail::add_waves(t, moving, rows.part(r, n), out.part(r, n)); });
  }
  template <class T>
  void map_backward(Side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area&, Call<T>&) const {
    detail::add_rows(dout, drows);
  }
};

}  // namespace attune
