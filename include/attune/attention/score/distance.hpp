// Scores by distance: SquaredDistance, logits = -scale |query - key|^2, and GaussianKernel,
// logits = -|query - key|^2 / (2 bandwidth^2), whose softmax is the Nadaraya-Watson regression of the values on the
// keys. "On estimating regression", Nadaraya 1964; "Smooth regression analysis", Watson 1964
//
// The differences are squared, pair by pair. The expanded form, 2 query . key - |query|^2 - |key|^2, is one product of
// the library's kernel, but loses |query|^2 / |query - key|^2 times the precision: at rows of length 100 whose distance
// is 1, ten thousand roundings of float32, where the numerical contract allows about thirty. The subtraction makes it
// two operations a pair and number instead of one.
#pragma once
#include <string_view>

#include "attune/attention/stage.hpp"

namespace attune {

namespace detail {

// For float, double and Dual<double>, on the instruction set of this machine: src/attention/distance.cpp.
/// x = factor * |query - key|^2.
template <class T>
void distance_logits(const Features<T>& f, const Tile<T>& x, T factor);
/// dquery += 2 factor dx (query - key), dkey the negative of it.
template <class T>
void distance_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, T factor);

}  // namespace detail

/// Query and key of one width; scale > 0 makes near rows heavy.
struct SquaredDistance {
  static constexpr std::string_view name = "squared_distance";
  static constexpr std::string_view source = "Nadaraya 1964, Watson 1964",
                                    cost = "D subtractions and D multiply-adds a pair";
  double scale = 1;

  void options(StageOptions& visit) { visit("scale", scale); }
  void check(const AttendShape&) const;
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>&) const {
    detail::distance_logits(f, x, T(-scale));
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>&) const {
    detail::distance_backward(f, dx, df, T(-scale));
  }
};

/// Parameter: bandwidth [H], in units of the rows, not 0. Query and key of one width.
struct GaussianKernel {
  static constexpr std::string_view name = "gaussian";
  static constexpr std::string_view source = "Nadaraya 1964, Watson 1964",
                                    cost = "D subtractions and D multiply-adds a pair";
  static constexpr bool keeps_logits = true;

  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"bandwidth", {1}, Per::head, Start::at(1)}};
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::distance_logits(f, x, factor_of(call));
  }
  // d/dw of x = -s / (2 w^2) is s / w^3 = -2 x / w, s = |query - key|^2.
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::distance_backward(f, dx, df, factor_of(call));
    T lane[kLanes] = {};
    for (int j = 0; j < dx.area.keys; ++j) {
      for (int i = 0; i < dx.area.queries; ++i) lane[i] += dx[j][i] * f.logits[j][i];
    }
    *call.parameter[0].grad -= T(2) / *call.parameter[0].value * sum_lanes(lane, dx.area.queries);
  }

 private:
  template <class T>
  static T factor_of(const Call<T>& call) {
    const T w = *call.parameter[0].value;
    return T(-0.5) / (w * w);
  }
};

}  // namespace attune
