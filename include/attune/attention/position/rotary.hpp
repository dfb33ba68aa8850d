// Rotary position: pairs of numbers turn by position * base^(-2 k / rotary_dim).  RoFormer, arXiv:2104.09864
//
// A model trained on original_length tokens reads texts `factor` times as long with other frequencies f_k:
//
//     linear    f_k / factor: positions are squeezed.  arXiv:2306.15595
//     ntk       base * factor^(d / (d - 2)): slow pairs are stretched, fast ones hardly ("NTK-aware")
//     dynamic   ntk with factor * T / original_length - (factor - 1) for T keys, once there are more than
//               original_length
//     yarn      f_k / factor where a pair turns less than beta_slow times within original_length, f_k where more than
//               beta_fast times, a ramp between; rows are scaled by 0.1 ln(factor) + 1 each.  arXiv:2309.00071
//     llama3    as yarn, but the ramp is linear in the number of turns, and rows are not scaled.  arXiv:2407.21783
#pragma once
#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "attune/attention/position/turn.hpp"
#include "attune/attention/stage.hpp"

namespace attune {

enum class RotaryScaling : std::uint8_t { none, linear, ntk, dynamic, yarn, llama3 };
inline std::span<const std::string_view> option_names(RotaryScaling) {
  static constexpr std::array<std::string_view, 6> names = {"none", "linear", "ntk", "dynamic", "yarn", "llama3"};
  return names;
}

/// (x1, x2) -> (x1 cos - x2 sin, x1 sin + x2 cos). Pairs are (k, k + rotary_dim / 2), or (2 k, 2 k + 1) if interleaved;
/// numbers from rotary_dim on stay. Queries stand at index + offset, keys at their index.
struct Rotary {
  static constexpr std::string_view name = "rotary";
  static constexpr std::string_view source = "arXiv:2104.09864", cost = "1 turn a row";
  double base = 10000;
  int rotary_dim = 0;  // 0: all of D; even
  bool interleaved = false;
  RotaryScaling scaling = RotaryScaling::none;
  double factor = 1;        // 1 or more
  int original_length = 0;  // tokens; dynamic, yarn and llama3 need it
  double beta_fast = 0;     // turns within original_length; 0: 32 in yarn, 4 in llama3
  double beta_slow = 1;
  std::optional<double> attention_factor;  // yarn: what rows are scaled by; none: 0.1 ln(factor) + 1

  void options(StageOptions& visit) {
    visit("base", base), visit("rotary_dim", rotary_dim), visit("interleaved", interleaved);
    visit("scaling", scaling), visit("factor", factor), visit("original_length", original_length);
    visit("beta_fast", beta_fast), visit("beta_slow", beta_slow), visit("attention_factor", attention_factor);
  }
  void check(const AttendShape&) const;
  int width(Side, int dim) const { return dim; }
  /// Radians a position that pair k of `dim` numbers turns by, in a call with num_keys keys.
  double frequency(int k, int dim, int num_keys) const;
  /// What rows are scaled by: 1 but in yarn.
  double amplitude() const;

  detail::TurnPairs pairs(int dim) const { return {rotary_dim ? rotary_dim : dim, interleaved}; }
  /// The angles of n rows, run by run: f(turns, first row, rows, moving).
  template <class F>
  void each_run(Side side, const Area& area, int n, int dim, F f) const {
    const int keys = scaling == RotaryScaling::dynamic ? area.shape->num_keys : 0;
    detail::Turns& t = detail::turns_of<Rotary>({base, double(dim), double(scaling), factor, double(original_length),
                                                 beta_fast, beta_slow, attention_factor.value_or(0), double(keys)},
                                                dim / 2, false, [&](detail::Turns& made) {
                                                  for (int k = 0; k < dim / 2; ++k)
                                                    made.frequency[std::size_t(k)] = frequency(k, dim, keys);
                                                  made.amplitude = amplitude();
                                                });
    detail::each_run(t, detail::first_position(side == Side::query, area), n,
                     [&](int r, int rows, int moving) { f(t, r, rows, moving); });
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
