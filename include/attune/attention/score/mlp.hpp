// MLP score of any depth: logits = v^T a(W_L ... a(W_2 a(W_q query + W_k key + b_1) + b_2) ... + b_L).
// One hidden layer with tanh is the additive score of arXiv:1409.0473; deeper ones as in "Massive exploration of neural
// machine translation architectures", arXiv:1703.03906, which compares such scores.
//
// The first layer's products are the row map, once per row; the others run once per pair, a key's queries at a time.
// Nothing of a pair outlives its tile: the backward computes the layers again.
#pragma once
#include <algorithm>
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
    const Layers<T> layers{call.scratch(std::size_t(units()) * kLanes), nullptr};
    const int n = x.area.queries, last = hidden.back();
    for (int j = 0; j < x.area.keys; ++j) {
      run<false>(f.query, f.key[j], n, layers, call);
      product(1, n, last, call.parameter.back().value, last, 1, layers.value + first(depth() - 1), kLanes, x[j],
              x.stride);
    }
  }
  // u = W h + b, h' = a(u): du = a'(u) dh'; db += du, dW += du h^T, dh = W^T du.
  template <class T>
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    if (is_additive()) return detail::tanh_backward(f, dx, df, call.parameter.back(), call);
    const std::size_t all = std::size_t(units()) * kLanes, most = std::size_t(widest()) * kLanes;
    T* const memory = call.scratch(2 * all + 3 * most);
    const Layers<T> layers{memory, memory + all};
    T *du = memory + 2 * all, *dh = du + most, *turned = dh + most;
    const int n = dx.area.queries, last = depth() - 1;
    const Parameter<T>& v = call.parameter.back();
    for (int j = 0; j < dx.area.keys; ++j) {
      run<true>(f.query, f.key[j], n, layers, call);
      const T* g = dx[j];
      for (int e = 0; e < hidden[std::size_t(last)]; ++e) {
        const T* h = layers.value + first(last) + e * kLanes;
        T product_of[kLanes] = {};
        for (int i = 0; i < n; ++i) {
          product_of[i] = h[i] * g[i];
          dh[e * kLanes + i] = v.value[e] * g[i];
        }
        v.grad[e] += sum_lanes(product_of, n);
      }
      for (int layer = last; layer >= 0; --layer) {
        const int rows = hidden[std::size_t(layer)];
        const T* slope = layers.slope + first(layer);
        for (int e = 0; e < rows; ++e) {
          for (int i = 0; i < n; ++i) du[e * kLanes + i] = slope[e * kLanes + i] * dh[e * kLanes + i];
        }
        if (layer > 0) layer_backward(layer, n, layers.value + first(layer - 1), du, dh, turned, call);
      }
      for (int e = 0; e < hidden[0]; ++e) {
        T* dquery = df.query[e];
        for (int i = 0; i < n; ++i) dquery[i] += du[e * kLanes + i];
        df.key[j][e] += sum_lanes(du + e * kLanes, n);
      }
    }
  }

 private:
  /// One key's hidden units and slopes of the activation there, [F][kLanes] each, a layer after the other.
  template <class T>
  struct Layers {
    T *value, *slope;  // slope: null in a forward pass
  };
  /// One layer of tanh: what the library has kernels for.
  bool is_additive() const { return depth() == 1 && activation == ScoreActivation::tanh; }
  int depth() const { return int(hidden.size()); }
  int units() const { return first(depth()) / kLanes; }
  int widest() const { return *std::max_element(hidden.begin(), hidden.end()); }
  /// Where a layer's units begin.
  int first(int layer) const {
    int n = 0;
    for (int l = 0; l < layer; ++l) n += hidden[std::size_t(l)];
    return n * kLanes;
  }
  /// Place of weight_l among the parameters; bias_l stands behind it. layer counts from 0.
  static std::size_t weight(int layer) { return std::size_t(2 * layer + 1); }

  template <bool kBackward, class T>
  void run(const Matrix<const T>& query, const T* key, int n, const Layers<T>& to, Call<T>& call) const {
    for (int layer = 0; layer < depth(); ++layer) {
      const int rows = hidden[std::size_t(layer)];
      T* u = to.value + first(layer);
      const T* added = key;
      if (layer > 0) {
        const int below = hidden[std::size_t(layer - 1)];
        product(rows, n, below, call.parameter[weight(layer)].value, below, 1,
                static_cast<const T*>(to.value + first(layer - 1)), kLanes, u, kLanes);
        added = call.parameter[weight(layer) + 1].value;
      }
      const Matrix<const T> from = layer > 0 ? Matrix<const T>{u, rows, n, kLanes} : query;
      for (int e = 0; e < rows; ++e) {
        for (int i = 0; i < n; ++i) u[e * kLanes + i] = from[e][i] + added[e];
      }
      activate<kBackward>(to, layer, n);
    }
  }
  /// Of one layer: its units become activations and, for a backward, slope becomes what a' is there.
  template <bool kBackward, class T>
  void activate(const Layers<T>& to, int layer, int n) const {
    const auto each_unit = [&](auto f) {
      for (int e = 0; e < hidden[std::size_t(layer)]; ++e) {
        T* x = to.value + first(layer) + e * kLanes;
        T* slope = kBackward ? to.slope + first(layer) + e * kLanes : x;
        for (int i = 0; i < n; ++i) f(x[i], slope[i]);
      }
    };
    if (activation == ScoreActivation::tanh) {
      each_unit([](T& x, [[maybe_unused]] T& slope) {
        // 1 - tanh^2 = 4 e / (1 + e)^2 with e = exp(-2 |x|): free of the difference's cancellation.
        if constexpr (kBackward) {
          const T e = exp(x > T(0) ? T(-2) * x : T(2) * x);
          slope = T(4) * e / ((T(1) + e) * (T(1) + e));
        }
        x = tanh(x);
      });
    } else if (activation == ScoreActivation::relu) {
      each_unit([](T& x, [[maybe_unused]] T& slope) {
        if constexpr (kBackward) slope = x > T(0) ? T(1) : T(0);
        x = x > T(0) ? x : T(0);
      });
    } else {
      each_unit([](T& x, [[maybe_unused]] T& slope) {
        // x s(2 z), and s(2 z) = 1 / (1 + e) or e / (1 + e) with e = exp(-2 |z|): nothing cancels.
        const T root(0.7978845608028654), cubic(0.044715), z = root * (x + cubic * x * x * x);  // sqrt(2 / pi)
        const T e = exp(z > T(0) ? T(-2) * z : T(2) * z), near = T(1) / (T(1) + e), gate = (z > T(0) ? T(1) : e) * near;
        if constexpr (kBackward) slope = gate + T(2) * x * e * near * near * root * (T(1) + T(3) * cubic * x * x);
        x = x * gate;
      });
    }
  }
  /// du of a layer to its parameters, and to dh of the layer below.
  template <class T>
  void layer_backward(int layer, int n, const T* below, const T* du, T* dh, T* turned, Call<T>& call) const {
    const int rows = hidden[std::size_t(layer)], cols = hidden[std::size_t(layer - 1)];
    const Parameter<T>&w = call.parameter[weight(layer)], &bias = call.parameter[weight(layer) + 1];
    for (int e = 0; e < rows; ++e) bias.grad[e] += sum_lanes(du + e * kLanes, n);
    for (int c = 0; c < cols; ++c) {
      for (int i = 0; i < n; ++i) turned[i * cols + c] = below[c * kLanes + i];
    }
    add_product(rows, cols, n, du, kLanes, 1, static_cast<const T*>(turned), cols, w.grad, cols);
    product(cols, n, rows, w.value, 1, cols, du, kLanes, dh, kLanes);
  }
};

}  // namespace attune
