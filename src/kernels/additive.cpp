// additive.hpp, compiled per target and exported. Forward: queries in the lanes, hidden units one after the other.
// Backward: hidden units in the lanes, so that the sums over queries, over keys and over both are vertical.
//
// The ladder, ns a pair and hidden unit at shape A, forward / backward (AVX-512, Zen 4, one thread):
//   tanh as a rational function in C++ under target attributes, three sums over lanes a hidden unit   0.43 / 1.26
//   exponentials of rows, one division for two                                                        0.10 / 0.28
//   rows that are too large for them found in vectors; two queries a turn on the way back             0.09 / 0.25
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

/// wild[r] = 1 if row r of n features is too large for its exponentials or holds a NaN, else 0. Returns whether one is.
template <class T>
HWY_NOINLINE bool find_wild_rows(const T* x, std::ptrdiff_t stride, int rows, int n, T* wild) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> most = set(T(kMostFeature));
  bool any = false;
  for (int r = 0; r < rows; ++r) {
    bool tame = true;
    for (int c = 0; c < n; c += kL) {
      const Vec<T> v = n - c < kL ? load_first(x + r * stride + c, n - c) : load(x + r * stride + c);
      tame = hn::AllTrue(Lanes<T>(), hn::Le(hn::Abs(v), most)) && tame;
    }
    wild[r] = tame ? T(0) : T(1);
    any = any || !tame;
  }
  return any;
}
/// The same of columns, lanes [n features][kMostQueries at most].
template <class T>
HWY_NOINLINE bool find_wild_lanes(const T* x, std::ptrdiff_t stride, int lanes, int n, T* wild) {
  constexpr int kL = kLaneCount<T>;
  const Vec<T> most = set(T(kMostFeature));
  bool any = false;
  for (int c = 0; c < lanes; c += kL) {
    Vec<T> flag = zero<T>();
    for (int r = 0; r < n; ++r) {
      const Vec<T> v = lanes - c < kL ? load_first(x + r * stride + c, lanes - c) : load(x + r * stride + c);
      flag = hn::IfThenElse(hn::Le(hn::Abs(v), most), flag, set(T(1)));
    }
    store(flag, wild + c);
    any = any || !hn::AllTrue(Lanes<T>(), hn::Eq(flag, zero<T>()));
  }
  return any;
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
    if (c < to_stride) std::fill(to + r * to_stride + c, to + (r + 1) * to_stride, T(0));
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
  T* wild_keys = k + width * in.keys;
  exponentials(in.query, in.query_stride, in.hidden, in.queries, q, kMostQueries);
  exponentials(in.key, in.key_stride, in.keys, in.hidden, k, width);
  alignas(64) T wild[kMostQueries], all[kMostQueries];
  std::fill(all, all + kMostQueries, T(1));
  const bool any_query = find_wild_lanes(in.query, in.query_stride, in.queries, in.hidden, wild);
  const bool any_key = find_wild_rows(in.key, in.key_stride, in.keys, in.hidden, wild_keys);
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
    const bool wild_key = any_key && wild_keys[j] > T(0);
    if (any_query || wild_key) logits_by_tanh(in, j, wild_key ? all : wild, row);
  }
  static_assert(kMostQueries % kL == 0);
}

/// The gradients of two queries and all keys for two vectors of hidden units, but for the factor 4 v of dq and dk and
/// the factor -2 of dv. The two vectors share one division. q, dq: of the first query; g: [2][keys].
template <class T>
HWY_NOINLINE void two_vectors(int keys, const T* q, const T* k, const T* g, T* dq, T* dk, T* dv) {
  constexpr int kL = kLaneCount<T>, kWide = 2 * kL;
  const Vec<T> one = set(T(1));
  Vec<T> e[2][2], sum[2][2], weights[2] = {load(dv), load(dv + kL)};
  ATTUNE_UNROLL for (int i = 0; i < 2; ++i) {
    ATTUNE_UNROLL for (int c = 0; c < 2; ++c) {
      e[i][c] = load(q + i * kWide + c * kL);
      sum[i][c] = zero<T>();
    }
  }
  for (int j = 0; j < keys; ++j, k += kWide, dk += kWide) {
    const Vec<T> k0 = load(k), k1 = load(k + kL);
    Vec<T> s[2][2], w[2][2];
    ATTUNE_UNROLL for (int i = 0; i < 2; ++i) {
      const Vec<T> gradient = set(g[i * keys + j]);
      const Vec<T> a = hn::MulAdd(e[i][0], k0, one), b = hn::MulAdd(e[i][1], k1, one);
      const Vec<T> inverse = hn::Div(one, hn::Mul(a, b)), u0 = hn::Mul(inverse, b), u1 = hn::Mul(inverse, a);
      w[i][0] = hn::Mul(gradient, u0);
      w[i][1] = hn::Mul(gradient, u1);
      s[i][0] = hn::NegMulAdd(w[i][0], u0, w[i][0]);
      s[i][1] = hn::NegMulAdd(w[i][1], u1, w[i][1]);
    }
    ATTUNE_UNROLL for (int c = 0; c < 2; ++c) {
      sum[0][c] = hn::Add(sum[0][c], s[0][c]);
      sum[1][c] = hn::Add(sum[1][c], s[1][c]);
      weights[c] = hn::Add(weights[c], hn::Add(w[0][c], w[1][c]));
      store(hn::Add(load(dk + c * kL), hn::Add(s[0][c], s[1][c])), dk + c * kL);
    }
  }
  ATTUNE_UNROLL for (int c = 0; c < 2; ++c) {
    store(weights[c], dv + c * kL);
    store(sum[0][c], dq + c * kL);
    store(sum[1][c], dq + kWide + c * kL);
  }
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
  constexpr int kL = kLaneCount<T>, kWide = 2 * kL;
  const int rows = (in.queries + 1) / 2 * 2;  // queries, in twos
  T* g = scratch;                             // [rows][keys] dx, 0 where a row is not tame
  T* q = g + kMostQueries * in.keys;          // [rows][kWide], of kWide hidden units at a time
  T* dq = q + kMostQueries * kWide;
  T* k = dq + kMostQueries * kWide;  // [keys][kWide]
  T* dk = k + in.keys * kWide;
  T* wild_keys = dk + in.keys * kWide;

  // Rows that are not tame take no part in the loops over exponentials: a gradient of 0 at an exponential of 0.
  const T unit = T(1);
  transpose_into<false, false>(dx, stride, in.keys, in.queries, g, in.keys, &unit);
  if (rows > in.queries) std::fill(g + in.queries * in.keys, g + rows * in.keys, T(0));
  T wild_queries[kMostQueries];
  const bool any_query = find_wild_rows(in.query, in.query_stride, in.queries, in.hidden, wild_queries);
  const bool any_key = find_wild_rows(in.key, in.key_stride, in.keys, in.hidden, wild_keys);
  const auto wild = [](bool any, const T* flags, int r) { return any && flags[r] > T(0); };
  for (int i = 0; i < in.queries; ++i) {
    if (wild(any_query, wild_queries, i)) std::fill(g + i * in.keys, g + (i + 1) * in.keys, T(0));
  }
  for (int j = 0; any_key && j < in.keys; ++j) {
    for (int i = 0; wild(any_key, wild_keys, j) && i < in.queries; ++i) g[i * in.keys + j] = T(0);
  }
  Vec<T> totals = zero<T>();  // of all dx, for dv = sum of dx (1 - 2 u)
  const int pairs = in.queries * in.keys;
  for (int n = 0; n < pairs; n += kL) totals = hn::Add(totals, load_first(g + n, std::min(kL, pairs - n)));
  const T total = hn::GetLane(hn::SumOfLanes(Lanes<T>(), totals));
  for (int h = 0; h < in.hidden; h += kWide) {
    const int wide = std::min(kWide, in.hidden - h);
    exponentials(in.query + h, in.query_stride, in.queries, wide, q, kWide);
    exponentials(in.key + h, in.key_stride, in.keys, wide, k, kWide);
    std::fill(q + in.queries * kWide, q + rows * kWide, T(0));
    std::fill(dk, dk + in.keys * kWide, T(0));
    for (int i = 0; i < in.queries; ++i) {
      if (wild(any_query, wild_queries, i)) std::fill(q + i * kWide, q + (i + 1) * kWide, T(0));
    }
    for (int j = 0; j < in.keys; ++j) {
      if (wild(any_key, wild_keys, j)) std::fill(k + j * kWide, k + (j + 1) * kWide, T(0));
    }
    T weights[kWide] = {}, factor[kWide] = {};
    for (int i = 0; i < rows; i += 2)
      two_vectors(in.keys, q + i * kWide, k, g + i * in.keys, dq + i * kWide, dk, weights);
    for (int c = 0; c < wide; ++c) {
      dv[h + c] += total - T(2) * weights[c];
      factor[c] = T(4) * in.v[h + c];
    }
    for (int j = 0; j < in.keys; ++j) {
      for (int c = 0; c < wide; c += kL) {
        const int n = std::min(kL, wide - c);
        T* to = dkey + j * dkey_stride + h + c;
        store_first(hn::MulAdd(load(factor + c), load(dk + j * kWide + c), load_first(to, n)), to, n);
      }
    }
    transpose_into<true, true>(dq, kWide, in.queries, wide, dquery + h * dquery_stride, dquery_stride, factor);
  }
  for (int j = 0; (any_query || any_key) && j < in.keys; ++j) {
    for (int i = 0; i < in.queries; ++i) {
      if (wild(any_key, wild_keys, j) || wild(any_query, wild_queries, i))
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
  const std::size_t width = std::size_t(hidden + 31) / 32 * 32, rows = 64 + std::size_t(keys);
  return std::max(width * rows, 64 * std::size_t(keys) + 2 * 32 * rows) + std::size_t(keys);
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
