// FIRE: a small network of how far the key is, as a share of how far it could be. arXiv:2310.04418
//
//     z      = psi(|position of query - key|) / (psi(max(threshold, position of query)) + 1e-6)
//     psi(d) = log(1 + rate d)
//     logits += sum over u of weight[head][u] act(hidden_weight[u] z + hidden_bias[u])  +  bias[head]
//
// psi is taken once a diagonal of the tile and its divisor once a query; the network runs once a pair.
//
// Ladder: 32 hidden units, ReLU, width 64, AVX-512, ns a pair forward and backward over no bias (2.6 and 6.3):
//     the activation chosen inside the loop over lanes         + 2.3   + 34
//     a loop for each activation, h of a row before its use    + 2.2   + 12
// Blocks of 16 lanes, so that sums might stay in registers, are unrolled before they are vectorised: + 10 and + 57.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "attune/attention/bias/by_distance.hpp"
#include "attune/attention/bias/lane_log.hpp"

namespace attune {

enum class FireActivation : std::uint8_t { relu, tanh };
/// "relu", "tanh".
std::span<const std::string_view> option_names(FireActivation);

/// Parameters: hidden_weight and hidden_bias [hidden_dim], rate [1] and threshold [1] (in units of `length` tokens),
/// shared by all heads; weight [H, hidden_dim], bias [H]. Magnitudes of rate and threshold count. The paper starts them
/// at 0.1 and 1. A key after its query is as far as one before it.
struct Fire {
  static constexpr std::string_view name = "fire";
  static constexpr std::string_view source = "arXiv:2310.04418", cost = "2 hidden_dim multiply-adds a pair";
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
    const Shares<T> z(x.area, call, length, 0);
    const int n = x.area.queries;
    T share[kLanes], sum[kLanes];
    for (int j = 0; j < x.area.keys; ++j) {
      z.row(j, share);
      if (activation == FireActivation::tanh)
        run<true>(n, share, sum, call);
      else
        run<false>(n, share, sum, call);
      T* row = x[j];
      for (int i = 0; i < n; ++i) row[i] += sum[i];
    }
  }
  template <class T>
  void backward(const Tile<T>*, Tile<T>& dx, Call<T>& call) const {
    const int n = dx.area.queries, keys = dx.area.keys;
    const Shares<T> z(dx.area, call, length, 2 * std::size_t(keys) * kLanes);
    T *share = z.rest, *dshare = share + std::ptrdiff_t(keys) * kLanes;
    for (int j = 0; j < keys; ++j) {
      z.row(j, share + j * kLanes);
      for (int i = 0; i < n; ++i) dshare[j * kLanes + i] = T(0);
    }
    *call.parameter[kBias].grad += sum_each(dx, [](T& d, int, int) { return d; });
    if (activation == FireActivation::tanh)
      run_backward<true>(dx, share, dshare, call);
    else
      run_backward<false>(dx, share, dshare, call);
    z.backward(dx.area, share, dshare, call);
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
    // z = psi / (P + 1e-6): dpsi = dz inverse, dP = -z dz inverse; and psi and P are log(1 + rate d).
    void backward(const Area& a, const T* share, const T* dshare, Call<T>& call) const {
      T dfarthest[kLanes] = {}, drate(0), dthreshold(0);
      for (int m = 0; m < diagonals.count; ++m) dpsi[m] = T(0);
      for (int j = 0; j < a.keys; ++j) {
        T* of_row = dpsi + diagonals.place(j);
        for (int i = 0; i < queries; ++i) {
          const T d = dshare[j * kLanes + i] * inverse[i];
          of_row[i] += d;
          dfarthest[i] -= share[j * kLanes + i] * d;
        }
      }
      for (int m = 0; m < diagonals.count; ++m) {
        const T d = T(std::abs(diagonals.first + m));
        drate += dpsi[m] * d / (T(1) + rate * d);
      }
      for (int i = 0; i < queries; ++i) {
        const T g = dfarthest[i] / (T(1) + rate * farthest[i]);
        drate += g * farthest[i];
        if (threshold >= T(a.query + i + a.offset)) dthreshold += g * rate;
      }
      const Parameter<T>&r = call.parameter[kRate], &t = call.parameter[kThreshold];
      *r.grad += *r.value < T(0) ? -drate : drate;
      *t.grad += length * (*t.value < T(0) ? -dthreshold : dthreshold);
    }
  };

  // The network for a row of the tile.
  template <bool kTanh, class T>
  void run(int n, const T* share, T* sum, Call<T>& call) const {
    const Parameter<T>* p = call.parameter.data();
    for (int i = 0; i < n; ++i) sum[i] = *p[kBias].value;
    for (int u = 0; u < hidden_dim; ++u) {
      const T w = p[kHiddenWeight].value[u], b = p[kHiddenBias].value[u], v = p[kWeight].value[u];
      for (int i = 0; i < n; ++i) sum[i] += v * act<kTanh>(w * share[i] + b);
    }
  }
  // h = act(w z + b), the unit adds v h: dv = h dx, and t = v act' dx gives dw = t z, db = t, dz = t w.
  template <bool kTanh, class T>
  void run_backward(const Tile<T>& dx, const T* share, T* dshare, Call<T>& call) const {
    const Parameter<T>* p = call.parameter.data();
    const int n = dx.area.queries;
    for (int u = 0; u < hidden_dim; ++u) {
      const T w = p[kHiddenWeight].value[u], b = p[kHiddenBias].value[u], v = p[kWeight].value[u];
      T dw[kLanes] = {}, db[kLanes] = {}, dv[kLanes] = {};
      for (int j = 0; j < dx.area.keys; ++j) {
        const T *d = dx[j], *z = share + j * kLanes;
        T* dz = dshare + j * kLanes;
        T h[kLanes];
        for (int i = 0; i < n; ++i) h[i] = act<kTanh>(w * z[i] + b);
        for (int i = 0; i < n; ++i) {
          const T t = v * slope<kTanh>(h[i]) * d[i];
          dv[i] += h[i] * d[i];
          db[i] += t;
          dw[i] += t * z[i];
          dz[i] += t * w;
        }
      }
      p[kHiddenWeight].grad[u] += sum_lanes(dw, n);
      p[kHiddenBias].grad[u] += sum_lanes(db, n);
      p[kWeight].grad[u] += sum_lanes(dv, n);
    }
  }
  template <bool kTanh, class T>
  static T act(T x) {
    if constexpr (kTanh)
      return tanh(x);
    else
      return x > T(0) ? x : T(0);
  }
  template <bool kTanh, class T>
  static T slope(T h) {
    if constexpr (kTanh)
      return T(1) - h * h;
    else
      return h > T(0) ? T(1) : T(0);
  }
};

}  // namespace attune
