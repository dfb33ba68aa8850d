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
    detail::each_turn(t, detail::first_position(side == Side::query, area), rows.rows, [&](int r) {
      const T* __restrict x = rows[r];
      T* __restrict y = out[r];
      const double* __restrict sin = t.sin.data(), * __restrict cos = t.cos.data();
      for (int k = 0; k < dim / 2; ++k) {
        y[2 * k] = x[2 * k] + T(sin[k]);
        y[2 * k + 1] = x[2 * k + 1] + T(cos[k]);
      }
      if (dim % 2) y[dim - 1] = x[dim - 1] + T(sin[half - 1]);
    });
  }
  template <class T>
  void map_backward(Side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area&, Call<T>&) const {
    detail::add_rows(dout, drows);
  }
};

}  // namespace attune
