// The layers of the MLP score beyond one of tanh (score/mlp.hpp): float32 compiled once for every instruction set.
#include "attune/attention/score/mlp.hpp"

#include <algorithm>

#include "attune/attention/any_stage.hpp"
#include "kernels/activation.hpp"

namespace attune::detail {
namespace {

template <class T>
class MlpTiles {
 public:
  explicit MlpTiles(const MlpScore& score) : hidden_(score.hidden), activation_(score.activation) {}

  void logits(const Features<T>& f, const Tile<T>& x, Call<T>& call) const {
    T* const memory = call.scratch(std::size_t(units()) * kLanes);
    const Layers layers{memory, memory};
    const int n = x.area.queries, last = hidden_.back();
    for (int j = 0; j < x.area.keys; ++j) {
      run(f.query, f.key[j], n, layers, call);
      attune::product(1, n, last, call.parameter.back().value, last, 1, layers.value + first(depth() - 1), kLanes, x[j],
                      x.stride);
    }
  }
  // u = W h + b, h' = a(u): du = a'(u) dh'; db += du, dW += du h^T, dh = W^T du.
  void backward(const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df, Call<T>& call) const {
    const std::size_t all = std::size_t(units()) * kLanes, most = std::size_t(widest()) * kLanes;
    T* const memory = call.scratch(2 * all + 3 * most);
    const Layers layers{memory, memory + all};
    T *du = memory + 2 * all, *dh = du + most, *turned = dh + most;
    const int n = dx.area.queries, last = depth() - 1;
    const Parameter<T>& v = call.parameter.back();
    for (int j = 0; j < dx.area.keys; ++j) {
      run(f.query, f.key[j], n, layers, call);
      const T* g = dx[j];
      for (int e = 0; e < hidden_[std::size_t(last)]; ++e) {
        const T* h = layers.value + first(last) + e * kLanes;
        T product_of[kLanes] = {};
        for (int i = 0; i < n; ++i) {
          product_of[i] = h[i] * g[i];
          dh[e * kLanes + i] = v.value[e] * g[i];
        }
        v.grad[e] += sum_lanes(product_of, n);
      }
      for (int layer = last; layer >= 0; --layer) {
        const int rows = hidden_[std::size_t(layer)];
        activate_backward(rows * kLanes, layers.before + first(layer), dh, du);
        if (layer > 0) layer_backward(layer, n, layers.value + first(layer - 1), du, dh, turned, call);
      }
      for (int e = 0; e < hidden_[0]; ++e) {
        T* dquery = df.query[e];
        for (int i = 0; i < n; ++i) dquery[i] += du[e * kLanes + i];
        df.key[j][e] += sum_lanes(du + e * kLanes, n);
      }
    }
  }

 private:
  /// One key's hidden units before and after the activation, [F][kLanes] each, a layer after the other. The lanes past
  /// the tile's queries hold anything.
  struct Layers {
    T *before, *value;  // the same memory in a forward pass
  };
  int depth() const { return int(hidden_.size()); }
  int units() const { return first(depth()) / kLanes; }
  int widest() const { return *std::max_element(hidden_.begin(), hidden_.end()); }
  /// Where a layer's units begin.
  int first(int layer) const {
    int n = 0;
    for (int l = 0; l < layer; ++l) n += hidden_[std::size_t(l)];
    return n * kLanes;
  }
  /// Place of weight_l among the parameters; bias_l stands behind it. layer counts from 0.
  static std::size_t weight(int layer) { return std::size_t(2 * layer + 1); }

  void run(const Matrix<const T>& query, const T* key, int n, const Layers& to, Call<T>& call) const {
    for (int layer = 0; layer < depth(); ++layer) {
      const int rows = hidden_[std::size_t(layer)];
      T* u = to.before + first(layer);
      const T* added = key;
      if (layer > 0) {
        const int below = hidden_[std::size_t(layer - 1)];
        attune::product(rows, n, below, call.parameter[weight(layer)].value, below, 1,
                        static_cast<const T*>(to.value + first(layer - 1)), kLanes, u, kLanes);
        added = call.parameter[weight(layer) + 1].value;
      }
      const Matrix<const T> from = layer > 0 ? Matrix<const T>{u, rows, n, kLanes} : query;
      for (int e = 0; e < rows; ++e) {
        for (int i = 0; i < n; ++i) u[e * kLanes + i] = from[e][i] + added[e];
      }
      activate(rows * kLanes, u, to.value + first(layer));
    }
  }
  kernels::Pointwise function() const {
    return activation_ == ScoreActivation::relu   ? kernels::Pointwise::relu
           : activation_ == ScoreActivation::gelu ? kernels::Pointwise::gelu_tanh
                                                  : kernels::Pointwise::tanh;
  }
  /// h = a(u).
  void activate(int count, const T* u, T* h) const {
    if constexpr (kHasKernel<T>) {
      kernels::pointwise(function(), count, u, h);
    } else {
      for (int e = 0; e < count; ++e) {
        const T x = u[e];
        h[e] = activation_ == ScoreActivation::tanh   ? tanh(x)
               : activation_ == ScoreActivation::relu ? (x > T(0) ? x : T(0))
                                                      : x * Gate(x).open;
      }
    }
  }
  /// du = a'(u) dh.
  void activate_backward(int count, const T* u, const T* dh, T* du) const {
    if (activation_ == ScoreActivation::tanh) {
      // 1 - tanh^2 = 4 e / (1 + e)^2 with e = exp(-2 |x|): free of the difference's cancellation.
      for (int e = 0; e < count; ++e) {
        const T x = u[e], power = exp(x > T(0) ? T(-2) * x : T(2) * x);
        du[e] = dh[e] * (T(4) * power / ((T(1) + power) * (T(1) + power)));
      }
    } else if constexpr (kHasKernel<T>) {
      kernels::pointwise_backward(function(), count, u, dh, du, false);
    } else {
      for (int e = 0; e < count; ++e) {
        const T x = u[e];
        du[e] = dh[e] * (activation_ == ScoreActivation::relu ? (x > T(0) ? T(1) : T(0)) : Gate(x).slope(x));
      }
    }
  }
  /// x s(2 z) with z = sqrt(2 / pi) (x + 0.044715 x^3), and s(2 z) = 1 / (1 + e) or e / (1 + e) with e = exp(-2 |z|):
  /// nothing cancels.
  struct Gate {
    T e, near, open;
    explicit Gate(T x) {
      const T z = root() * (x + cubic() * x * x * x);
      e = exp(z > T(0) ? T(-2) * z : T(2) * z);
      near = T(1) / (T(1) + e);
      open = (z > T(0) ? T(1) : e) * near;
    }
    T slope(T x) const { return open + T(2) * x * e * near * near * root() * (T(1) + T(3) * cubic() * x * x); }
    static T root() { return T(0.7978845608028654); }  // sqrt(2 / pi)
    static T cubic() { return T(0.044715); }
  };
  /// du of a layer to its parameters, and to dh of the layer below.
  void layer_backward(int layer, int n, const T* below, const T* du, T* dh, T* turned, Call<T>& call) const {
    const int rows = hidden_[std::size_t(layer)], cols = hidden_[std::size_t(layer - 1)];
    const Parameter<T>&w = call.parameter[weight(layer)], &bias = call.parameter[weight(layer) + 1];
    for (int e = 0; e < rows; ++e) bias.grad[e] += sum_lanes(du + e * kLanes, n);
    for (int c = 0; c < cols; ++c) {
      for (int i = 0; i < n; ++i) turned[i * cols + c] = below[c * kLanes + i];
    }
    attune::add_product(rows, cols, n, du, kLanes, 1, static_cast<const T*>(turned), cols, w.grad, cols);
    attune::product(cols, n, rows, w.value, 1, cols, du, kLanes, dh, kLanes);
  }

  const std::vector<int>& hidden_;
  ScoreActivation activation_;
};

}  // namespace

template <class T>
void mlp_logits(const MlpScore& score, const Features<T>& f, const Tile<T>& x, Call<T>& call) {
  const auto run = [&] { MlpTiles<T>(score).logits(f, x, call); };
  if constexpr (std::is_same_v<T, float>)
    on_cpu<T>(run);
  else
    run();
}
template <class T>
void mlp_backward(const MlpScore& score, const Features<T>& f, const Tile<T>& dx, const DFeatures<T>& df,
                  Call<T>& call) {
  const auto run = [&] { MlpTiles<T>(score).backward(f, dx, df, call); };
  if constexpr (std::is_same_v<T, float>)
    on_cpu<T>(run);
  else
    run();
}

#define ATTUNE_MLP(T)                                                                         \
  template void mlp_logits<T>(const MlpScore&, const Features<T>&, const Tile<T>&, Call<T>&); \
  template void mlp_backward<T>(const MlpScore&, const Features<T>&, const Tile<T>&, const DFeatures<T>&, Call<T>&);
ATTUNE_MLP(float)
ATTUNE_MLP(double)
ATTUNE_MLP(Dual<double>)
#undef ATTUNE_MLP

}  // namespace attune::detail
