// Rotary position: pairs of numbers turn by position * base^(-2 k / rotary_dim).  RoFormer, arXiv:2104.09864
#pragma once
#include <cmath>
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

/// (x1, x2) -> (x1 cos - x2 sin, x1 sin + x2 cos). Pairs are (k, k + rotary_dim / 2), or (2 k, 2 k + 1) if interleaved;
/// numbers from rotary_dim on stay. Queries stand at index + offset, keys at their index.
struct Rotary {
  static constexpr std::string_view name = "rotary";
  static constexpr std::string_view source = "arXiv:2104.09864", cost = "1 turn a row";
  double base = 10000;
  int rotary_dim = 0;  // 0: all of D; even
  bool interleaved = false;

  void options(StageOptions& visit) {
    visit("base", base), visit("rotary_dim", rotary_dim), visit("interleaved", interleaved);
  }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
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
    const int dim = rotary_dim ? rotary_dim : x.cols, half = dim / 2;
    const int first = side == Side::query ? area.query + area.offset : area.key;
    const int step = interleaved ? 2 : 1, partner = interleaved ? 1 : half;
    for (int r = 0; r < x.rows; ++r) {
      for (int c = dim; c < x.cols; ++c) put(y[r][c], x[r][c]);
    }
    for (int k = 0; k < half; ++k) {
      const double frequency = std::pow(base, -2.0 * k / dim);
      const double turn_cos = std::cos(frequency), turn_sin = std::sin(frequency);
      const int a = k * step, b = a + partner;
      double c = 1, s = 0;
      for (int r = 0; r < x.rows; ++r) {
        if (r % kRestart == 0) {
          c = std::cos((first + r) * frequency);
          s = std::sin((first + r) * frequency);
        } else {  // one more position: turn the pair (c, s) by the frequency
          const double next = c * turn_cos - s * turn_sin;
          s = s * turn_cos + c * turn_sin;
          c = next;
        }
        const T x1 = x[r][a], x2 = x[r][b], cos_t = T(c), sin_t = T(sign * s);
        put(y[r][a], x1 * cos_t - x2 * sin_t);
        put(y[r][b], x1 * sin_t + x2 * cos_t);
      }
    }
  }
  static constexpr int kRestart =
      32;  // rows between exact sines: the recurrence has lost under 32 ulp of a double by then
};

}  // namespace attune
