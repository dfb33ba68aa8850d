// FIRE: a small network of how far the key is, as a share of how far it could be. arXiv:2310.04418
//
//     z      = psi(|position of query - key|) / (psi(max(threshold, position of query)) + 1e-6)
//     psi(d) = log(1 + rate d)
//     logits += sum over u of weight[head][u] act(hidden_weight[u] z + hidden_bias[u])  +  bias[head]
//
// psi is taken once a diagonal of the tile and its divisor once a query. With ReLU the network is a broken line of z,
// of which a diagonal mostly meets one piece: float32 runs it by diagonals (src/kernels/fire-inl.h has the ladder).
// With tanh, and for other scalars, it runs once a pair.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "attune/attention/bias/by_distance.hpp"
#include "attune/attention/bias/lane_log.hpp"

namespace attune {

namespace detail {
// The network of a tile, z = psi[keys - 1 - j + i] inverse[i]; parameters as Fire lists them. src/attention/
// bias_kernels.cpp; dpsi and dinverse are overwritten.
struct FireNetwork {
  int hidden;
  bool tanh;
  const Parameter<float>* p;
  const float *psi, *inverse;
};
std::size_t fire_scratch(const Area& a, int hidden);
void add_fire(const FireNetwork& f, const Tile<float>& x, float* scratch);
void fire_backward(const FireNetwork& f, const Tile<float>& dx, float* dpsi, float* dinverse, float* scratch);
}  // namespace detail

enum class FireActivation : std::uint8_t { relu, tanh };
/// "relu", "tanh".
std::span<const std::string_view> option_names(FireActivation);

/// Parameters: hidden_weight and hidden_bias [hidden_dim], rate [1] and threshold [1] (in units of `length` tokens),
/// shared by all heads; weight [H, hidden_dim], bias [H]. Magnitudes of rate and threshold count. The paper starts them
/// at 0.1 and 1. A key after its query is as far as one before it.
struct Fire {
  static constexpr std::string_view name = "fire";
  static constexpr std::string_view source = "arXiv:2310.04418",
                                    cost = "2 multiply-adds a pair, 4 hidden_dim a diagonal of a tile";
  int hidden_dim = 32;
  double length = 512;
  FireActivation activation = FireActivation::relu;

  void options(StageOptions& visit) {
    visit("hidden_dim", hidden_dim), visit("length", length), visit("activation", activation);
  }
  void check(const AttendShape&) const;
  std::vector<ParameterSpec> parameters(const AttendShape&) const {
    return {{"hidden_weight", {hidden_dim}, Per::call, Start::uniform(1)},  // as two linear layers
            {"hidden_bias", {hidden_dim}, Per::call, Start::uniform(1)},
            {"weight", {hidden_dim}, Per::head, Start::uniform(1 / std::sqrt(double(hidden_dim)))},
            {"bias", {1}, Per::head, Start::at(0)},
            {"rate", {1}, Per::call, Start::at(0.1)},
            {"threshold", {1}, Per::call, Start::at(1)}};
  }
  template <class T>
  void apply(Tile<T>& x, Tile<T>*, Call<T>& call) const {
    if constexpr (std::is_same_v<T, float>) {
      const Shares<T> z(x.area, call, length, detail::fire_scratch(x.area, hidden_dim));
      detail::add_fire(network(z, call), x, z.rest);
    } else {
      detail::once([&] { run(x, call); });
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    if constexpr (std::is_same_v<T, float>) {
      const Shares<T> z(dx.area, call, length, detail::fire_scratch(dx.area, hidden_dim));
      T dinverse[kLanes];
      detail::fire_backward(network(z, call), dx, z.dpsi, dinverse, z.rest);
      z.backward(dx.area, dinverse, call);
    } else {
      detail::once([&] { run_backward(dx, call); });
    }
  }

 private:
  enum Place { kHiddenWeight, kHiddenBias, kWeight, kBias, kRate, kThreshold };

  // z of a tile: psi by diagonals, and for every query its farthest distance and 1 / (psi of it + 1e-6).
  template <class T>
  struct Shares {
    detail::Diagonals diagonals;
    int queries;
    T rate, length;  // |rate|, and tokens a unit of the threshold
    T threshold;     // in tokens
    T *psi, *dpsi, *rest;
    T farthest[kLanes], inverse[kLanes];

    Shares(const Area& a, Call<T>& call, double unit, std::size_t more)
        : diagonals(a), queries(a.queries), rate(abs(*call.parameter[kRate].value)), length(T(unit)) {
      threshold = length * abs(*call.parameter[kThreshold].value);
      psi = call.scratch(2 * std::size_t(diagonals.count) + more);
      dpsi = psi + diagonals.count, rest = dpsi + diagonals.count;
      for (int m = 0; m < diagonals.count; ++m) psi[m] = log_of(T(std::abs(diagonals.first + m)));
      for (int i = 0; i < a.queries; ++i) {
        farthest[i] = maximum(threshold, T(a.query + i + a.offset));
        inverse[i] = T(1) / (log_of(farthest[i]) + T(1e-6));
      }
    }
    T log_of(T d) const { return detail::lane_log(T(1) + rate * d); }
    void row(int j, T* share) const {
      const T* of_row = psi + diagonals.place(j);
      for (int i = 0; i < queries; ++i) share[i] = of_row[i] * inverse[i];
    }
    // z = psi inverse, inverse = 1 / (P + 1e-6): dP = -inverse^2 dinverse; and psi and P are log(1 + rate d).
    void backward(const Area& a, const T* dinverse, Call<T>& call) const {
      for (int m = 0; m < diagonals.count; ++m) {
        const T d = T(std::abs(diagonals.first + m));
        dpsi[m] *= d / (T(1) + rate * d);
      }
      T drate = sum_lanes(dpsi, diagonals.count), dthreshold(0);
      for (int i = 0; i < queries; ++i) {
        const T g = -dinverse[i] * inverse[i] * inverse[i] / (T(1) + rate * farthest[i]);
        drate += g * farthest[i];
        if (threshold >= T(a.query + i + a.offset)) dthreshold += g * rate;
      }
      const Parameter<T>&r = call.parameter[kRate], &t = call.parameter[kThreshold];
      *r.grad += *r.value < T(0) ? -drate : drate;
      *t.grad += length * (*t.value < T(0) ? -dthreshold : dthreshold);
    }
  };

  detail::FireNetwork network(const Shares<float>& z, const Call<float>& call) const {
    return {hidden_dim, activation == FireActivation::tanh, call.parameter.data(), z.psi, z.inverse};
  }
  template <class T>
  void run(const Tile<T>& x, Call<T>& call) const {
    const Shares<T> z(x.area, call, length, 0);
    const Parameter<T>* p = call.parameter.data();
    const int n = x.area.queries;
    T share[kLanes], sum[kLanes];
    for (int j = 0; j < x.area.keys; ++j) {
      z.row(j, share);
      for (int i = 0; i < n; ++i) sum[i] = *p[kBias].value;
      for (int u = 0; u < hidden_dim; ++u) {
        const T w = p[kHiddenWeight].value[u], b = p[kHiddenBias].value[u], v = p[kWeight].value[u];
        for (int i = 0; i < n; ++i) sum[i] += v * act(w * share[i] + b);
      }
      T* row = x[j];
      for (int i = 0; i < n; ++i) row[i] += sum[i];
    }
  }
  // h = act(w z + b), the unit adds v h: dv = h dx, and t = v act' dx gives dw = t z, db = t, dz = t w.
  template <class T>
  void run_backward(const Tile<T>& dx, Call<T>& call) const {
    const Shares<T> z(dx.area, call, length, 3 * std::size_t(hidden_dim) * kLanes);
    const Parameter<T>* p = call.parameter.data();
    const int n = dx.area.queries;
    T *dw = z.rest, *db = dw + hidden_dim * kLanes, *dv = db + hidden_dim * kLanes;
    for (int i = 0; i < 3 * hidden_dim * kLanes; ++i) dw[i] = T(0);
    for (int m = 0; m < z.diagonals.count; ++m) z.dpsi[m] = T(0);
    T share[kLanes], dshare[kLanes], h[kLanes], dinverse[kLanes] = {};
    for (int j = 0; j < dx.area.keys; ++j) {
      const T *d = dx[j], *psi = z.psi + z.diagonals.place(j);
      T* dpsi = z.dpsi + z.diagonals.place(j);
      z.row(j, share);
      for (int i = 0; i < n; ++i) dshare[i] = T(0);
      for (int u = 0; u < hidden_dim; ++u) {
        const T w = p[kHiddenWeight].value[u], b = p[kHiddenBias].value[u], v = p[kWeight].value[u];
        T *du = dw + u * kLanes, *dc = db + u * kLanes, *da = dv + u * kLanes;
        for (int i = 0; i < n; ++i) h[i] = act(w * share[i] + b);
        for (int i = 0; i < n; ++i) {
          const T t = v * slope(h[i]) * d[i];
          da[i] += h[i] * d[i];
          dc[i] += t;
          du[i] += t * share[i];
          dshare[i] += t * w;
        }
      }
      for (int i = 0; i < n; ++i) {
        dpsi[i] += dshare[i] * z.inverse[i];
        dinverse[i] += dshare[i] * psi[i];
      }
    }
    for (int u = 0; u < hidden_dim; ++u) {
      p[kHiddenWeight].grad[u] += sum_lanes(dw + u * kLanes, n);
      p[kHiddenBias].grad[u] += sum_lanes(db + u * kLanes, n);
      p[kWeight].grad[u] += sum_lanes(dv + u * kLanes, n);
    }
    *p[kBias].grad += sum_each(dx, [](T& d, int, int) { return d; });
    z.backward(dx.area, dinverse, call);
  }
  template <class T>
  T act(T x) const {
    return activation == FireActivation::tanh ? T(tanh(x)) : x > T(0) ? x : T(0);
  }
  template <class T>
  T slope(T h) const {
    return activation == FireActivation::tanh ? T(1) - h * h : h > T(0) ? T(1) : T(0);
  }
};

}  // namespace attune
