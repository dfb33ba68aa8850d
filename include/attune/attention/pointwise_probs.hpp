// A function of your own on softmax's weights (FlexAttention's prob_mod): weights = f(softmax(logits)). Its derivative
// comes from dual numbers.
//
//     auto sharp = pointwise_probs([](auto p, auto at) { return p * p; });
//     attend(query, key, value, {.normalizer = sharp});
//
// Only a factor would commute with the rescaling of an online softmax, so the rows are taken whole. "FlexAttention",
// arXiv:2412.05496; ONNX FlexAttention (ai.onnx.preview).
//
// Ladder: backward at width 64, AVX-512, ns a pair over softmax's 6.3: row numbers read where they lie + 9.7; copied
// beside the loop, so that it runs in lanes, + 3.4 (sparsemax: + 3.2).
#pragma once
#include <algorithm>
#include <string_view>
#include <utility>

#include "attune/attention/stage.hpp"

namespace attune {

/// Whose weight it is. `query` is the query's position among the keys (its index plus the call's offset). Which key it
/// belongs to is not known: tiles that nobody sees leave gaps in a row.
struct RowIndex {
  int batch, head, query;
};

/// Memory: 64 numbers a visited key and thread. A hidden pair has the weight 0 whatever f(0) is. `lse` is softmax's.
/// Where a weight underflows to 0, p f'(p) counts as 0.
template <class F>
struct PointwiseProbs {
  static constexpr std::string_view name = "pointwise_probs";
  static constexpr Walk walk = Walk::whole_rows;
  F f;

  template <class T>
  void forward(Tile<T>& x, Rows<T>& r, Call<T>&) const {
    T top[kLanes], sum[kLanes] = {};
    const int count = r.queries;
    for (int i = 0; i < count; ++i) top[i] = kHidden<T>;
    each_row(x, [&](const T* s, int n) {
      for (int i = 0; i < n; ++i) top[i] = top[i] < s[i] ? s[i] : top[i];
    });
    for (int i = 0; i < count; ++i) top[i] = top[i] == kHidden<T> ? T(0) : top[i];
    each_row(x, [&](const T* s, int n) {
      for (int i = 0; i < n; ++i) sum[i] += exp(s[i] - top[i]);
    });
    for (int i = 0; i < count; ++i) {
      r.max[i] = top[i] + log(sum[i]);
      r.factor[i] = T(1);
    }
    const Area a = x.area;
    each_row(x, [&, this](T* s, int n) {
      for (int i = 0; i < n; ++i) {
        const T p = exp(s[i] - r.max[i]);
        s[i] = s[i] == kHidden<T> ? T(0) : T(f(p, at(a, i)));
      }
    });
  }
  template <class T>
  void finish(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) {
      r.factor[i] = T(1);
      r.stat[i] = r.max[i];
    }
  }
  // p = exp(x - lse), w = f(p): dp = f'(p) dw, dx = p (dp - sum of p dp over the row), a sum that wants a walk of its
  // own.
  template <class T>
  void sweep(const Tile<T>& x, const Tile<T>& dw, Rows<T>& r, Call<T>&) const {
    const int n = r.queries;
    const Area a = x.area;
    T lse[kLanes], sum[kLanes];
    std::copy(r.stat, r.stat + n, lse);
    std::copy(r.first, r.first + n, sum);
    for (int j = 0; j < a.keys; ++j) {
      const T *s = x[j], *d = dw[j];
      for (int i = 0; i < n; ++i) {
        const T p = exp(s[i] - lse[i]);
        sum[i] += p > T(0) ? p * slope(p, at(a, i)) * d[i] : T(0);
      }
    }
    std::copy(sum, sum + n, r.first);
  }
  template <class T>
  void begin_backward(Rows<T>& r, Call<T>&) const {
    for (int i = 0; i < r.queries; ++i) r.delta[i] = r.first[i];
  }
  template <class T>
  void backward(Tile<T>& x, Tile<T>& dw, Rows<T>& r, Call<T>&) const {
    const int n = r.queries;
    const Area a = x.area;
    T lse[kLanes], delta[kLanes];
    std::copy(r.stat, r.stat + n, lse);
    std::copy(r.delta, r.delta + n, delta);
    for (int j = 0; j < a.keys; ++j) {
      T *s = x[j], *d = dw[j];
      for (int i = 0; i < n; ++i) {
        const T p = exp(s[i] - lse[i]);
        d[i] = p > T(0) ? p * (slope(p, at(a, i)) * d[i] - delta[i]) : T(0);
        s[i] = s[i] == kHidden<T> ? T(0) : T(f(p, at(a, i)));
      }
    }
  }

 private:
  static RowIndex at(const Area& a, int i) { return {a.batch, a.head, a.query + i + a.offset}; }
  template <class T>
  T slope(T p, RowIndex at) const {
    return Dual<T>(f(Dual<T>(p, T(1)), at)).d;
  }
};

/// A normalizer from f(weight, RowIndex): weights = f(softmax(logits), at).
template <class F>
PointwiseProbs<F> pointwise_probs(F f) {
  return {std::move(f)};
}

}  // namespace attune
