// xPos: rotary position that also fades with the distance. "A length-extrapolatable transformer", arXiv:2212.10554
//
//     pair k of a query at position m is scaled by z_k^(m / scale_base), of a key at n by z_k^(-n / scale_base),
//     z_k = (2 k / D + gamma) / (1 + gamma), and both turn as in Rotary
//
// so that their product holds z_k^((m - n) / scale_base): less the further a key lies back. It is made for causal
// attention: keys ahead grow.
#pragma once
#include <string_view>

#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

/// scale_base and middle in positions, gamma above 0. Scales are counted from the position `middle`, which changes no
/// dot product: half of a long text's length keeps them in the range of float32, which with the paper's numbers ends
/// 35,000 positions away.
struct XPos {
  static constexpr std::string_view name = "xpos";
  static constexpr std::string_view source = "arXiv:2212.10554", cost = "1 turn and 1 power a row";
  double base = 10000, scale_base = 512, gamma = 0.4;
  int middle = 0;
  bool interleaved = false;

  void options(StageOptions& visit) {
    visit("base", base), visit("scale_base", scale_base), visit("gamma", gamma), visit("middle", middle);
    visit("interleaved", interleaved);
  }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }

  detail::TurnPairs pairs(int dim) const { return {dim, interleaved}; }
  /// The angles and sizes of n rows, run by run: f(turns, first row, rows, moving).
  template <class F>
  void each_run(Side side, const Area& area, int n, int dim, F f) const {
    const double sign = side == Side::query ? 1 : -1;
    detail::Turns& t = detail::turns_of<XPos>({base, scale_base, gamma, double(middle), double(dim), sign}, dim / 2,
                                              true, [&](detail::Turns& made) {
                                                for (int k = 0; k < dim / 2; ++k) {
                                                  made.frequency[std::size_t(k)] = frequency(k, dim);
                                                  made.fade[std::size_t(k)] = sign * log_scale(k, dim);
                                                }
                                                made.middle = middle;
                                              });
    detail::each_run(t, detail::first_position(side == Side::query, area), n,
                     [&](int r, int rows, int moving) { f(t, r, rows, moving); });
  }

  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>&) const {
    detail::turn_rows(*this, side, rows, out, area, false);
  }
  // The transpose of a scaled rotation turns back, with the same scale.
  template <class T>
  void map_backward(Side side, Matrix<const T>, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>&) const {
    detail::turn_rows(*this, side, dout, drows, area, true);
  }

 private:
  /// Radians a position, and ln z_k / scale_base.
  double frequency(int k, int dim) const;
  double log_scale(int k, int dim) const;
};

}  // namespace attune
