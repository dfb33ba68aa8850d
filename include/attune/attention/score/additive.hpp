// Additive score: logits = v^T tanh(W_q query + W_k key).
// "Neural machine translation by jointly learning to align and translate", arXiv:1409.0473
// The projections are the row map: they run once per row, not per pair. Query and key may have different widths.
#pragma once
#include <string_view>

#include "attune/attention/score/rows.hpp"

namespace attune {

namespace detail {
// The library's kernels, for the instruction set of this machine: src/attention/tile_kernels.cpp.
void additive_logits(const Features<float>&, const Tile<float>& x, const float* v, Call<float>&);
void additive_logits(const Features<double>&, const Tile<double>& x, const double* v, Call<double>&);
void additive_backward(const Features<float>&, const Tile<float>& dx, const DFeatures<float>&,
                       const Parameter<float>& v, Call<float>&);
void additive_backward(const Features<double>&, const Tile<double>& dx, const DFeatures<double>&,
                       const Parameter<double>& v, Call<double>&);

/// logits = v^T tanh(query features + key features): what every score with one hidden layer ends in.
template <class T>
void tanh_logits(const Features<T>& f, Tile<T>& x, const T* v, Call<T>& call) {
  if constexpr (kHasKernel<T>) {
    additive_logits(f, x, v, call);
  } else {
    const int n = x.area.queries;
    for (int j = 0; j < x.area.keys; ++j) {
      T* s = x[j];
      for (int i = 0; i < n; ++i) s[i] = T(0);
      for (int h = 0; h < f.query.rows; ++h) {
        const T* q = f.query[h];
        const T k = f.key[j][h], weight = v[h];
        for (int i = 0; i < n; ++i) s[i] += weight * tanh(q[i] + k);
      }
    }
  }
}
// d tanh(u) = 1 - tanh(u)^2, and tanh is computed again: storing it would cost hidden_dim numbers a pair.
template <class T>
void tanh_backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, const Parameter<T>& v,
                   Call<T>& call) {
  if constexpr (kHasKernel<T>) {
    additive_backward(f, dx, df, v, call);
  } else {
    const int n = dx.area.queries;
    T du[kLanes] = {}, dweight[kLanes] = {};
    for (int j = 0; j < dx.area.keys; ++j) {
      const T* g = dx[j];
      for (int h = 0; h < f.query.rows; ++h) {
        const T* q = f.query[h];
        T* dq = df.query[h];
        const T k = f.key[j][h], weight = v.value[h];
        for (int i = 0; i < n; ++i) {
          const T t = tanh(q[i] + k);
          dweight[i] = g[i] * t;
          du[i] = weight * (g[i] - dweight[i] * t);
          dq[i] += du[i];
        }
        df.key[j][h] += sum_lanes(du, n);
        v.grad[h] += sum_lanes(dweight, n);
      }
    }
  }
}
}  // namespace detail

/// Parameters: query_weight [H, hidden_dim, query_dim], key_weight [Hkv, hidden_dim, key_dim], v [H, hidden_dim].
struct Additive {
  static constexpr std::string_view name = "additive";
  static constexpr std::string_view source = "arXiv:1409.0473", cost = "hidden_dim tanh a pair";
  int hidden_dim = 0;  // F; chosen by name and left at 0, it becomes key_dim

  void options(StageOptions& visit) { visit("hidden_dim", hidden_dim); }
  void fit(const AttendShape& shape) { hidden_dim = hidden_dim ? hidden_dim : shape.key_dim; }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const {
    return {{"query_weight", {hidden_dim, shape.query_dim}, Per::head},
            {"key_weight", {hidden_dim, shape.key_dim}, Per::kv_head},
            {"v", {hidden_dim}, Per::head}};
  }
  int width(Side, int) const { return hidden_dim; }
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>& call) const {
    detail::project(rows, call.parameter[side == Side::key].value, rows.cols, out, call);
  }
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                    Call<T>& call) const {
    detail::project_backward(rows, dout, call.parameter[side == Side::key], rows.cols, drows);
  }
  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    detail::tanh_logits(f, x, call.parameter[2].value, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    detail::tanh_backward(f, dx, df, call.parameter[2], call);
  }
};

}  // namespace attune
