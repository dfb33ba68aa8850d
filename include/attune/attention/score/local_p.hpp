// Luong's local-p: logits = scale * query . key - (j - p)^2 / (2 sigma^2), around a centre that the query predicts,
// p = Tk sigmoid(v^T tanh(W query)), sigma = half_width / 2.
// "Effective approaches to attention-based neural machine translation", section 3.2, arXiv:1508.04025
//
// The paper multiplies probabilities by the Gaussian after the softmax, over the window p - half_width .. p +
// half_width alone, and does not normalise again. Here the Gaussian is added as a logarithm and all visible keys share
// the softmax: the same shape with a sum of 1, and no jump where a key enters the window. Beyond the window the weight
// is below e^-2 of the centre's.
#pragma once
#include <cmath>
#include <optional>
#include <string_view>

#include "attune/attention/score/rows.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {

/// Parameters: weight [H, hidden_dim, D], v [H, hidden_dim]. Query and key of one width D. Tk is the call's number of
/// keys, so it is meant for a source that is there as a whole, not for a growing cache.
struct LocalP {
  static constexpr std::string_view name = "local_p";
  static constexpr std::string_view source = "arXiv:1508.04025",
                                    cost = "D + 2 multiply-adds a pair, hidden_dim tanh a query";
  int hidden_dim = 0;             // chosen by name and left at 0, it becomes query_dim
  double half_width = 10;         // keys, D in the paper
  std::optional<double> scale{};  // default: 1 / sqrt(D); 1 in the paper

  void options(StageOptions& visit) {
    visit("hidden_dim", hidden_dim), visit("half_width", half_width), visit("scale", scale);
  }
  void fit(const AttendShape& shape) { hidden_dim = hidden_dim ? hidden_dim : shape.query_dim; }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"weight", {hidden_dim, shape.query_dim}, Per::head}, {"v", {hidden_dim}, Per::head}};
  }
  // A query's features: the scaled row, then its centre.
  int width(Side side, int dim) const { return side == Side::query ? dim + 1 : 0; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area& area, Call<T>& call) const {
    const int dim = rows.cols;
    ScaledDot{.scale = scale}.map(side, rows, Matrix<T>{out.data, out.rows, dim, out.stride}, area, call);
    const T* v = call.parameter[1].value;
    const T* units = hidden_units(rows, call);
    for (int r = 0; r < rows.rows; ++r) {
      out[r][dim] = T(double(area.shape->num_keys)) * sigmoid(dot(units + std::ptrdiff_t(r) * hidden_dim, v));
    }
  }
  // p = Tk s(z), z = v^T t, t = tanh(W query): dz = dp Tk s (1 - s); dv += t dz, du = dz v (1 - t^2).
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area& area,
                    Call<T>& call) const {
    const int dim = rows.cols;
    ScaledDot{.scale = scale}.map_backward(side, rows, Matrix<const T>{dout.data, dout.rows, dim, dout.stride}, drows,
                                           area, call);
    const Parameter<T>& v = call.parameter[1];
    T* units = hidden_units(rows, call);
    for (int r = 0; r < rows.rows; ++r) {
      T* t = units + std::ptrdiff_t(r) * hidden_dim;
      const T s = sigmoid(dot(t, v.value)), dz = dout[r][dim] * T(double(area.shape->num_keys)) * s * (T(1) - s);
      for (int e = 0; e < hidden_dim; ++e) {
        v.grad[e] += t[e] * dz;
        t[e] = dz * v.value[e] * (T(1) - t[e] * t[e]);
      }
    }
    detail::project_backward(rows, Matrix<const T>{units, rows.rows, hidden_dim, hidden_dim}, call.parameter[0], dim,
                             drows);
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    const T* centre = f.query[f.key.cols];
    detail::dot_logits(without_centre(f), x, call);
    const T factor = T(-0.5 / (sigma() * sigma()));
    for (int j = 0; j < x.area.keys; ++j) {
      T* s = x[j];
      const T key = T(double(x.area.key + j));
      for (int i = 0; i < x.area.queries; ++i) s[i] += factor * (key - centre[i]) * (key - centre[i]);
    }
  }
  // d/dp of -(j - p)^2 / (2 sigma^2) is (j - p) / sigma^2.
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::dot_backward(without_centre(f), dx, df, call);
    const T *centre = f.query[f.key.cols], factor = T(1 / (sigma() * sigma()));
    T* dcentre = df.query[f.key.cols];
    for (int j = 0; j < dx.area.keys; ++j) {
      const T *g = dx[j], key = T(double(dx.area.key + j));
      for (int i = 0; i < dx.area.queries; ++i) dcentre[i] += factor * (key - centre[i]) * g[i];
    }
  }

 private:
  double sigma() const { return half_width / 2; }
  template <class T>
  static Features<T> without_centre(Features<T> f) {
    f.query.rows = f.query_rows.cols = f.key.cols;
    return f;
  }
  /// tanh(W query) of every row, [n][hidden_dim] of the call's scratch.
  template <class T>
  T* hidden_units(Matrix<const T> rows, Call<T>& call) const {
    const std::size_t turned = std::size_t(hidden_dim) * rows.cols, n = std::size_t(rows.rows) * hidden_dim;
    T* memory = call.scratch(turned + n);
    detail::transposed(call.parameter[0].value, hidden_dim, rows.cols, rows.cols, call);
    T* units = memory + turned;
    product(rows.rows, hidden_dim, rows.cols, rows.data, rows.stride, 1, static_cast<const T*>(memory), hidden_dim,
            units, hidden_dim);
    for (std::size_t e = 0; e < n; ++e) units[e] = tanh(units[e]);
    return units;
  }
  template <class T>
  T dot(const T* t, const T* v) const {
    T z(0);
    for (int e = 0; e < hidden_dim; ++e) z += t[e] * v[e];
    return z;
  }
  template <class T>
  static T sigmoid(T z) {
    return T(1) / (T(1) + exp(-z));
  }
};

}  // namespace attune
