// MLP score of any depth: logits = v^T a(W_L ... a(W_2 a(W_q query + W_k key + b_1) + b_2) ... + b_L).
// One hidden layer with tanh is the additive score of arXiv:1409.0473; deeper ones as in "Massive exploration of neural
// machine translation architectures", arXiv:1703.03906, which compares such scores.
//
// The first layer's products are the row map, once per row; the others run once per pair, a key's queries at a time.
// Nothing of a pair outlives its tile: the backward computes the layers again.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "attune/attention/score/additive.hpp"

namespace attune {

enum class ScoreActivation : std::uint8_t {
  tanh,
  relu,
  gelu  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), arXiv:1606.08415
};
/// "tanh", "relu", "gelu".
std::span<const std::string_view> option_names(ScoreActivation);
struct MlpScore;

namespace detail {
// For float, double and Dual<double>, on the instruction set of this machine: src/attention/mlp.cpp.
template <class T>
void mlp_logits(const MlpScore&, const Features<T>&, const Tile<T>& x, Call<T>&);
template <class T>
void mlp_backward(const MlpScore&, const Features<T>&, const Tile<T>& dx, const DFeatures<T>&, Call<T>&);
}  // namespace detail

/// Parameters, F_l = hidden[l - 1]: query_weight [H, F_1, query_dim], key_weight [Hkv, F_1, key_dim], bias_1 [H, F_1];
/// for every further layer weight_l [H, F_l, F_(l-1)] and bias_l [H, F_l]; v [H, F_L]. Query and key may differ in
/// width. Memory: 64 x (2 x sum of F + 3 x the widest) numbers a thread.
struct MlpScore {
  static constexpr std::string_view name = "mlp";
  static constexpr std::string_view source = "arXiv:1409.0473, arXiv:1703.03906",
                                    cost = "sum of F_l F_(l-1) multiply-adds and of F_l activations a pair";
  std::vector<int> hidden;  // F_1 .. F_L; chosen by name and left empty, one layer of key_dim
  ScoreActivation activation = ScoreActivation::tanh;

  void options(StageOptions& visit) { visit("hidden", hidden), visit("activation", activation); }
  void fit(const AttendShape& shape) {
    if (hidden.empty()) hidden = {shape.key_dim};
  }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape& shape) const;
  int width(Side, int) const { return hidden[0]; }

  // Both sides are projected; the bias goes with the query.
  template <class T>
  void map(Side side, Matrix<const T> rows, Matrix<T> out, const Area&, Call<T>& call) const {
    detail::project(rows, call.parameter[side == Side::key].value, rows.cols, out, call);
    if (side == Side::key) return;
    const T* bias = call.parameter[2].value;
    for (int i = 0; i < out.rows; ++i) {
      for (int e = 0; e < out.cols; ++e) out[i][e] += bias[e];
    }
  }
  template <class T>
  void map_backward(Side side, Matrix<const T> rows, Matrix<const T> dout, Matrix<T> drows, const Area&,
                    Call<T>& call) const {
    detail::project_backward(rows, dout, call.parameter[side == Side::key], rows.cols, drows);
    if (side == Side::key) return;
    T* dbias = call.parameter[2].grad;
    for (int i = 0; i < dout.rows; ++i) {
      for (int e = 0; e < dout.cols; ++e) dbias[e] += dout[i][e];
    }
  }

  template <class T>
  void logits(const Features<T>& f, Tile<T>& x, Call<T>& call) const {
    if (is_additive()) return detail::tanh_logits(f, x, call.parameter.back().value, call);
    detail::mlp_logits(*this, f, x, call);
  }
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    if (is_additive()) return detail::tanh_backward(f, dx, df, call.parameter.back(), call);
    detail::mlp_backward(*this, f, dx, df, call);
  }

 private:
  /// One layer of tanh: what the library has kernels for.
  bool is_additive() const { return hidden.size() == 1 && activation == ScoreActivation::tanh; }
};

}  // namespace attune
