// Sinusoidal position, added to queries and keys: dimension 2k gets sin(position * base^(-2k/D)), 2k+1 the cosine.
// "Attention is all you need", arXiv:1706.03762. (Added to the tokens instead, it is nn's position module.)
#pragma once
#include <cmath>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

struct Sinusoidal {
  static constexpr std::string_view name = "sinusoidal";
  static constexpr std::string_view source = "arXiv:1706.03762", cost = "1 addition a row";
  double base = 10000;

  void options(StageOptions& visit) { visit("base", base); }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
  /// The number that dimension d of `dim` gets at a position.
  double at(std::int64_t position, int d, int dim) const {
    const double angle = double(position) * std::pow(base, -double(d - d % 2) / dim);
    return d % 2 ? std::cos(angle) : std::sin(angle);
  }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    const int first = side == Side::query ? area.query + area.offset : area.key;
    for (int r = 0; r < rows.rows; ++r) {
      for (int d = 0; d < rows.cols; ++d) out[r][d] = rows[r][d] + T(at(first + r, d, rows.cols));
    }
  }
  template <class T>
  void map_backward(Side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area&, Call<T>&) const {
    for (int r = 0; r < dout.rows; ++r) {
      for (int d = 0; d < dout.cols; ++d) drows[r][d] += dout[r][d];
    }
  }
};

}  // namespace attune
