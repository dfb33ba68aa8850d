// additive.hpp, compiled per target and exported. Forward: queries in the lanes, hidden units one after the other.
// Backward: hidden units in the lanes, so that the sums over queries, over keys and over both are vertical.
//
// The ladder, ns a pair and hidden unit at shape A, forward / backward (AVX-512, Zen 4, one thread):
//   tanh as a rational function in C++ under target attributes, three sums over lanes a hidden unit   0.43 / 1.26
//   exponentials of rows, one division for two                                                        0.10 / 0.28
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/additive.cpp"
#include "kernels/additive.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/columns-inl.h"
#include "kernels/math-inl.h"
#include "kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// (1 + Q K)^2 stays below the largest float while both features are at most this: e^88.
constexpr double kMostFeature = 11;
constexpr int kMostQueries = 64, kTwoVectors = 32;

/// Hidden units rounded up to two vectors of any target.
constexpr int padded(int n) { return (n + kTwoVectors - 1) / kTwoVectors * kTwoVectors; }

/// True if a row of n features, `step` apart, is small enough for its exponentials; NaN is not.
template <class T>
HWY_INLINE bool is_tame(const T* x, int n, std::ptrdiff_t step) {
  bool tame = true;
  for (int h = 0; h < n; ++h) tame = tame && std::abs(x[h * step]) <= T(kMostFeature);
  return tame;
}
/// to[r][c] = e^(2 from[r][c]), and 0 from column n to to_stride.
template <class T>
HWY_NOINLINE void exponentials(const T* from, std::ptrdiff_t stride, int rows, int n, T* to, std::ptrdiff_t to_stride) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> two = set(T(2));
  for (int r = 0; r < rows; ++r) {
    int c = 0;
    for (; c + kL <= n; c += kL) store(exp_of<T>(hn::Mul(two, load(from + r * stride + c))), to + r * to_stride + c);
    if (c < n) {
      const auto inside = hn::FirstN(Lanes<T>(), std::size_t(n - c));
      const Vec<T> e = exp_of<T>(hn::Mul(two, load_first(from + r * stride + c, n - c)));
      store(hn::IfThenElseZero(inside, e), to + r * to_stride + c);
      c += kL;
    }
    std::fill(to + r * to_stride + c, to + (r + 1) * to_stride, T(0));
  }
}

/// sum_h v[h] u[h] over all hidden units for kVectors vectors of queries, from Q [hidden][kMostQueries].
template <int kVectors, class T>
HWY_INLINE void weigh_units(int hidden, const T* q, const T* k, const T* v, Vec<T> (&sum)[kVectors]) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> one = set(T(1));
  ATTUNE_UNROLL for (int i = 0; i < kVectors; ++i) sum[i] = zero<T>();
  int h = 0;
  for (; h + 2 <= hidden; h += 2) {
    const Vec<T> k0 = set(k[h]), k1 = set(k[h + 1]), v0 = set(v[h]), v1 = set(v[h + 1]);
    ATTUNE_UNROLL for (int i = 0; i < kVectors; ++i) {
      const Vec<T> a = hn::MulAdd(k0, load(q + h * kMostQueries + i * kL), one);
      const Vec<T> b = hn::MulAdd(k1, load(q + (h + 1) * kMostQueries + i * kL), one);
      sum[i] = hn::Add(sum[i], hn::Div(hn::MulAdd(v0, b, hn::Mul(v1, a)), hn::Mul(a, b)));
    }
  }
  if (h < hidden) {
    ATTUNE_UNROLL for (int i = 0; i < kVectors; ++i) {
      const Vec<T> a = hn::MulAdd(set(k[h]), load(q + h * kMostQueries + i * kL), one);
      sum[i] = hn::Add(sum[i], hn::Div(set(v[h]), a));
    }
  }
}
/// One row of logits by tanh itself, for the lanes where `wild` is not 0.
template <class T>
HWY_NOINLINE void logits_by_tanh(const AdditiveTile<T>& in, int j, const T* wild, T* x) {
  constexpr int kL = kLaneCount<T>;
  for (int i = 0; i < in.queries; i += kL) {
    const int n = std::min(kL, in.queries - i);
    Vec<T> sum = zero<T>();
    for (int h = 0; h < in.hidden; ++h) {
      const Vec<T> u = hn::Add(load_first(in.query + h * in.query_stride + i, n), set(in.key[j * in.key_stride + h]));
      sum = hn::MulAdd(set(in.v[h]), tanh_of<T>(u), sum);
    }
    store_first(hn::IfThenElse(hn::Eq(load(wild + i), zero<T>()), load_first(x + i, n), sum), x + i, n);
  }
}

template <class T>
HWY_INLINE void forward_tile(const AdditiveTile<T>& in, T* x, std::ptrdiff_t stride, T* scratch) {
  constexpr int kL = kLaneCount<T>;
  const int width = padded(in.hidden);
  T* q = scratch;                   // [hidden][kMostQueries]
  T* k = q + width * kMostQueries;  // [keys][width]
  exponentials(in.query, in.query_stride, in.hidden, in.queries, q, kMostQueries);
  exponentials(in.key, in.key_stride, in.keys, in.hidden, k, width);
  alignas(64) T wild[kMostQueries] = {}, all[kMostQueries];
  std::fill(all, all + kMostQueries, T(1));
  bool any = false;
  for (int i = 0; i < in.queries; ++i) {
    if (is_tame(in.query + i, in.hidden, in.query_stride)) continue;
    wild[i] = T(1);
    any = true;
  }
  T total = T(0);  // tanh = 1 - 2 u
  for (int h = 0; h < in.hidden; ++h) total += in.v[h];
  for (int j = 0; j < in.keys; ++j) {
    T* row = x + j * stride;
    const auto columns = [&](auto c) HWY_ATTR {
      Vec<T> sum[c.kCount];
      weigh_units<c.kCount>(in.hidden, q + c.first, k + j * width, in.v, sum);
      ATTUNE_UNROLL for (int i = 0; i < c.kCount; ++i) {
        c.write(hn::NegMulAdd(set(T(2)), sum[i], set(total)), row, i);
      }
    };
    over_vectors<T>(in.queries, columns);
    const bool tame = is_tame(in.key + j * in.key_stride, in.hidden, 1);
    if (any || !tame) logits_by_tanh(in, j, tame ? wild : all, row);
  }
  static_assert(kMostQueries % kL == 0);
}

/// The gradients of one query and all keys for two vectors of hidden units, but for the factor 4 v of dq and dk and the
/// factor -2 of dv. The two vectors share one division.
template <class T>
HWY_INLINE void two_vectors(int keys, const T* q, const T* k, int width, const T* g, std::ptrdiff_t stride, T* dq,
                            T* dk, Vec<T> (&dv)[2]) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> one = set(T(1)), e0 = load(q), e1 = load(q + kL);
  Vec<T> sum0 = zero<T>(), sum1 = sum0;
  for (int j = 0; j < keys; ++j, k += width, dk += width) {
    const Vec<T> gradient = set(g[j * stride]);
    const Vec<T> a = hn::MulAdd(e0, load(k), one), b = hn::MulAdd(e1, load(k + kL), one);
    const Vec<T> inverse = hn::Div(one, hn::Mul(a, b)), u0 = hn::Mul(inverse, b), u1 = hn::Mul(inverse, a);
    const Vec<T> w0 = hn::Mul(gradient, u0), w1 = hn::Mul(gradient, u1);
    const Vec<T> s0 = hn::NegMulAdd(w0, u0, w0), s1 = hn::NegMulAdd(w1, u1, w1);
    sum0 = hn::Add(sum0, s0);
    sum1 = hn::Add(sum1, s1);
    dv[0] = hn::Add(dv[0], w0);
    dv[1] = hn::Add(dv[1], w1);
    store(hn::Add(load(dk), s0), dk);
    store(hn::Add(load(dk + kL), s1), dk + kL);
  }
  store(sum0, dq);
  store(sum1, dq + kL);
}
/// One pair by tanh itself.
template <class T>
HWY_NOINLINE void pair_by_tanh(const AdditiveTile<T>& in, int i, int j, T g, T* dquery, std::ptrdiff_t dquery_stride,
                               T* dkey, T* dv) {
  constexpr int kL = kLaneCount<T>;
  for (int h = 0; h < in.hidden; h += kL) {
    const int n = std::min(kL, in.hidden - h);
    const Vec<T> t = tanh_of<T>(
        hn::Add(load_first(in.query + i * in.query_stride + h, n), load_first(in.key + j * in.key_stride + h, n)));
    const Vec<T> gt = hn::Mul(set(g), t), du = hn::Mul(load_first(in.v + h, n), hn::NegMulAdd(gt, t, set(g)));
    store_first(hn::Add(load_first(dv + h, n), gt), dv + h, n);
    store_first(hn::Add(load_first(dkey + h, n), du), dkey + h, n);
    T lane[HWY_LANES(T)];
    store(du, lane);
    for (int l = 0; l < n; ++l) dquery[(h + l) * dquery_stride + i] += lane[l];
  }
}

template <class T>
HWY_INLINE void backward_tile(const AdditiveTile<T>& in, const T* dx, std::ptrdiff_t stride, T* dquery,
                              std::ptrdiff_t dquery_stride, T* dkey, std::ptrdiff_t dkey_stride, T* dv, T* scratch) {
  constexpr int kL = kLaneCount<T>;
  const int width = padded(in.hidden);
  T* q = scratch;                     // [queries][width]
  T* k = q + width * kMostQueries;    // [keys][width]
  T* dq = k + width * in.keys;        // [queries][width]
  T* dk = dq + width * kMostQueries;  // [keys][width]
  T* factor = dk + width * in.keys;   // [width] 4 v
  T* g = factor + width;              // [keys][kMostQueries], where some row is not tame
  exponentials(in.query, in.query_stride, in.queries, in.hidden, q, width);
  exponentials(in.key, in.key_stride, in.keys, in.hidden, k, width);
  std::fill(dk, dk + std::ptrdiff_t(in.keys) * width, T(0));
  for (int h = 0; h < width; ++h) factor[h] = h < in.hidden ? T(4) * in.v[h] : T(0);

  // Rows that are not tame take no part in the loops over exponentials: a gradient of 0 at an exponential of 0.
  bool wild_query[kMostQueries], any = false;
  for (int i = 0; i < in.queries; ++i) {
    wild_query[i] = !is_tame(in.query + i * in.query_stride, in.hidden, 1);
    any = any || wild_query[i];
    if (wild_query[i]) std::fill(q + std::ptrdiff_t(i) * width, q + std::ptrdiff_t(i + 1) * width, T(0));
  }
  for (int j = 0; j < in.keys; ++j) any = any || !is_tame(in.key + j * in.key_stride, in.hidden, 1);
  const T* use = dx;
  std::ptrdiff_t use_stride = stride;
  if (any) {
    for (int j = 0; j < in.keys; ++j) {
      const bool wild = !is_tame(in.key + j * in.key_stride, in.hidden, 1);
      if (wild) std::fill(k + std::ptrdiff_t(j) * width, k + std::ptrdiff_t(j + 1) * width, T(0));
      for (int i = 0; i < in.queries; ++i) g[j * kMostQueries + i] = wild || wild_query[i] ? T(0) : dx[j * stride + i];
    }
    use = g;
    use_stride = kMostQueries;
  }

  T total = T(0);  // of all dx, for dv = sum of dx (1 - 2 u)
  {
    T lane[kMostQueries] = {};
    for (int j = 0; j < in.keys; ++j) {
      for (int i = 0; i < in.queries; ++i) lane[i] += use[j * use_stride + i];
    }
    for (int i = 0; i < in.queries; ++i) total += lane[i];
  }
  for (int h = 0; h < in.hidden; h += 2 * kL) {
    Vec<T> sum[2] = {zero<T>(), zero<T>()};
    for (int i = 0; i < in.queries; ++i) {
      const std::ptrdiff_t at = std::ptrdiff_t(i) * width + h;
      two_vectors(in.keys, q + at, k + h, width, use + i, use_stride, dq + at, dk + h, sum);
    }
    for (int c = 0; c < 2 && h + c * kL < in.hidden; ++c) {
      const int n = std::min(kL, in.hidden - h - c * kL);
      T* to = dv + h + c * kL;
      store_first(hn::Add(load_first(to, n), hn::NegMulAdd(set(T(2)), sum[c], set(total))), to, n);
    }
  }
  for (int j = 0; j < in.keys; ++j) {
    for (int h = 0; h < in.hidden; h += kL) {
      const int n = std::min(kL, in.hidden - h);
      T* to = dkey + j * dkey_stride + h;
      store_first(hn::MulAdd(load(factor + h), load(dk + std::ptrdiff_t(j) * width + h), load_first(to, n)), to, n);
    }
  }
  transpose_into<true, true>(dq, width, in.queries, in.hidden, dquery, dquery_stride, factor);
  for (int j = 0; any && j < in.keys; ++j) {
    const bool wild = !is_tame(in.key + j * in.key_stride, in.hidden, 1);
    for (int i = 0; i < in.queries; ++i) {
      if (wild || wild_query[i])
        pair_by_tanh(in, i, j, dx[j * stride + i], dquery, dquery_stride, dkey + j * dkey_stride, dv);
    }
  }
}

#define ATTUNE_ADDITIVE(T, S)                                                                                        \
  void additive_forward_##S(const AdditiveTile<T>& in, T* x, std::ptrdiff_t stride, T* scratch) {                    \
    forward_tile(in, x, stride, scratch);                                                                            \
  }                                                                                                                  \
  void additive_backward_##S(const AdditiveTile<T>& in, const T* dx, std::ptrdiff_t stride, T* dquery,               \
                             std::ptrdiff_t dquery_stride, T* dkey, std::ptrdiff_t dkey_stride, T* dv, T* scratch) { \
    backward_tile(in, dx, stride, dquery, dquery_stride, dkey, dkey_stride, dv, scratch);                            \
  }
ATTUNE_ADDITIVE(float, f32)
ATTUNE_ADDITIVE(double, f64)
#undef ATTUNE_ADDITIVE

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

std::size_t additive_scratch(int keys, int hidden) {
  const std::size_t width = std::size_t(hidden + 31) / 32 * 32;
  return 2 * width * (64 + std::size_t(keys)) + width + 64 * std::size_t(keys);
}
#define ATTUNE_ADDITIVE(T, S)                                                                                    \
  void additive_forward(const AdditiveTile<T>& in, T* x, std::ptrdiff_t stride, T* scratch) {                    \
    ATTUNE_DISPATCH(additive_forward_##S)(in, x, stride, scratch);                                               \
  }                                                                                                              \
  void additive_backward(const AdditiveTile<T>& in, const T* dx, std::ptrdiff_t stride, T* dquery,               \
                         std::ptrdiff_t dquery_stride, T* dkey, std::ptrdiff_t dkey_stride, T* dv, T* scratch) { \
    ATTUNE_DISPATCH(additive_backward_##S)                                                                       \
    (in, dx, stride, dquery, dquery_stride, dkey, dkey_stride, dv, scratch);                                     \
  }
ATTUNE_ADDITIVE(float, f32)
ATTUNE_ADDITIVE(double, f64)
#undef ATTUNE_ADDITIVE

}  // namespace attune::kernels
#endif
