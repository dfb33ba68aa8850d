// sparse.hpp, compiled per target and exported.
//
// The ladder: 1.5-entmax over the plain path, (1, 8, 1024, 64), 20 of 1024 weights a query, AVX-512, Zen 4; forward /
// backward (which has the logits' product twice, in the walk for the mean and in its own):
//   products with all pairs                                              1.42 / 1.42
//   with vectors of 16 queries in which one has a weight                 1.22 /  .93
//   with single pairs where the sums can lie in rows                      .78 /  .83
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sparse.cpp"
#include "kernels/sparse.hpp"

#include <algorithm>
#include <bit>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/cells-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Keys whose list fits beside the sums.
constexpr int kListed = 256;
/// Sums at a time: enough to hide the latency of the multiply-add, few enough to leave registers.
constexpr int kSums = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 16 : 8;

/// The keys, from `from` on, with a pair in the cell that begins at `first`: at most kListed; returns how many.
HWY_INLINE int list_keys(const std::uint64_t* pairs, int first, int from, int to, int* list) {
  int n = 0;
  for (int j = from; j < to; ++j) {
    list[n] = j;
    n += cell_of(pairs[j], first) != 0;
  }
  return n;
}

Sparsity sparsity_of(const std::uint64_t* pairs, int keys) {
  Sparsity s;
  for (int j = 0; j < keys; ++j) {
    const std::uint64_t p = pairs[j];
    s.pairs += std::popcount(p);
    for (int cell = 0; cell < 64; cell += 16) s.cells += (p >> cell & 0xffff) != 0;
  }
  return s;
}

void nonzero_pairs_f32(const float* x, std::ptrdiff_t stride, int keys, int queries, std::uint64_t* pairs) {
  for (int j = 0; j < keys; ++j) {
    std::uint64_t word = 0;
    over_cells(queries, [&](auto c) HWY_ATTR {
      word |= bits_of(hn::Not(hn::Eq(c.read(x + j * stride, 0), zero<float>()))) << c.first;
    });
    pairs[j] = word;
  }
}

/// kKeys cells of one column of vectors.
template <int kKeys, class C>
HWY_INLINE void cells_product(C c, const int* list, int k, const float* a, std::ptrdiff_t am, const float* b,
                              std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  Vec<float> sum[kKeys];
  const float* row[kKeys];
  ATTUNE_UNROLL for (int r = 0; r < kKeys; ++r) {
    sum[r] = zero<float>();
    row[r] = a + list[r] * am;
  }
  for (int e = 0; e < k; ++e) {
    const Vec<float> y = c.read(b + e * bm, 0);
    ATTUNE_UNROLL for (int r = 0; r < kKeys; ++r) sum[r] = hn::MulAdd(set(row[r][e]), y, sum[r]);
  }
  ATTUNE_UNROLL for (int r = 0; r < kKeys; ++r) c.write(sum[r], to + list[r] * cm, 0);
}
void product_at_pairs_f32(const std::uint64_t* pairs, int keys, int queries, int k, const float* a, std::ptrdiff_t am,
                          const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  int list[kListed + 8];
  over_cells(queries, [&](auto c) HWY_ATTR {
    for (int j = 0; j < keys; ++j) c.write(zero<float>(), to + j * cm, 0);
    for (int from = 0; from < keys; from += kListed) {
      const int n = list_keys(pairs, c.first, from, std::min(keys, from + kListed), list);
      std::fill_n(list + n, 3, list[std::max(n - 1, 0)]);  // to a multiple of four: the last ones are made twice
      int r = 0;
      for (; r + 8 <= n; r += 8) cells_product<8>(c, list + r, k, a, am, b, bm, to, cm);
      for (; r < n; r += 4) cells_product<4>(c, list + r, k, a, am, b, bm, to, cm);
    }
  });
}

/// kRows rows of one column of vectors, over n listed keys.
template <int kRows, class C>
HWY_INLINE void lanes_block(C c, const int* list, int n, const float* a, std::ptrdiff_t am, const float* b,
                            std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  Vec<float> sum[kRows];
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) sum[r] = c.read(to + r * cm, 0);
  for (int s = 0; s < n; ++s) {
    const float* x = a + list[s] * am;
    const Vec<float> y = c.read(b + list[s] * bm, 0);
    ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(set(x[r]), y, sum[r]);
  }
  ATTUNE_UNROLL for (int r = 0; r < kRows; ++r) c.write(sum[r], to + r * cm, 0);
}
void add_pairs_to_lanes_f32(const std::uint64_t* pairs, int keys, int queries, int rows, const float* a,
                            std::ptrdiff_t am, const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  int list[kListed];
  over_cells(queries, [&](auto c) HWY_ATTR {
    for (int from = 0; from < keys; from += kListed) {
      const int n = list_keys(pairs, c.first, from, std::min(keys, from + kListed), list);
      if (n == 0) continue;
      int m = 0;
      for (; m + kSums <= rows; m += kSums) lanes_block<kSums>(c, list, n, a + m, am, b, bm, to + m * cm, cm);
      for (; m + 4 <= rows; m += 4) lanes_block<4>(c, list, n, a + m, am, b, bm, to + m * cm, cm);
      for (; m < rows; ++m) lanes_block<1>(c, list, n, a + m, am, b, bm, to + m * cm, cm);
    }
  });
}

template <class C>
HWY_INLINE void rows_columns(C c, const std::uint64_t* pairs, int keys, const float* a, std::ptrdiff_t am,
                             const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  for (int j = 0; j < keys; ++j) {
    if (pairs[j] == 0) continue;
    Vec<float> sum[C::kCount];
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) sum[v] = c.read(to + j * cm, v);
    for (std::uint64_t left = pairs[j]; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      const Vec<float> x = set(a[j * am + i]);
      ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) sum[v] = hn::MulAdd(x, c.read(b + i * bm, v), sum[v]);
    }
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) c.write(sum[v], to + j * cm, v);
  }
}
void add_pairs_to_rows_f32(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am,
                           const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  over_vectors<float>(n, [&](auto c) HWY_ATTR { rows_columns(c, pairs, keys, a, am, b, bm, to, cm); });
}

template <class C>
HWY_INLINE void query_rows_columns(C c, const std::uint64_t* pairs, int keys, const float* a, std::ptrdiff_t am,
                                   const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  for (int j = 0; j < keys; ++j) {
    if (pairs[j] == 0) continue;
    Vec<float> y[C::kCount];
    ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) y[v] = c.read(b + j * bm, v);
    for (std::uint64_t left = pairs[j]; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      const Vec<float> x = set(a[j * am + i]);
      float* row = to + i * cm;
      ATTUNE_UNROLL for (int v = 0; v < C::kCount; ++v) c.write(hn::MulAdd(x, y[v], c.read(row, v)), row, v);
    }
  }
}
void add_pairs_to_query_rows_f32(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am,
                                 const float* b, std::ptrdiff_t bm, float* to, std::ptrdiff_t cm) {
  over_vectors<float>(n, [&](auto c) HWY_ATTR { query_rows_columns(c, pairs, keys, a, am, b, bm, to, cm); });
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

Sparsity sparsity(const std::uint64_t* pairs, int keys) { return ATTUNE_DISPATCH(sparsity_of)(pairs, keys); }
void nonzero_pairs(const float* x, std::ptrdiff_t stride, int keys, int queries, std::uint64_t* pairs) {
  ATTUNE_DISPATCH(nonzero_pairs_f32)(x, stride, keys, queries, pairs);
}
void product_at_pairs(const std::uint64_t* pairs, int keys, int queries, int k, const float* a, std::ptrdiff_t am,
                      const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm) {
  ATTUNE_DISPATCH(product_at_pairs_f32)(pairs, keys, queries, k, a, am, b, bm, c, cm);
}
void add_pairs_to_lanes(const std::uint64_t* pairs, int keys, int queries, int rows, const float* a, std::ptrdiff_t am,
                        const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm) {
  ATTUNE_DISPATCH(add_pairs_to_lanes_f32)(pairs, keys, queries, rows, a, am, b, bm, c, cm);
}
void add_pairs_to_rows(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am, const float* b,
                       std::ptrdiff_t bm, float* c, std::ptrdiff_t cm) {
  ATTUNE_DISPATCH(add_pairs_to_rows_f32)(pairs, keys, n, a, am, b, bm, c, cm);
}
void add_pairs_to_query_rows(const std::uint64_t* pairs, int keys, int n, const float* a, std::ptrdiff_t am,
                             const float* b, std::ptrdiff_t bm, float* c, std::ptrdiff_t cm) {
  ATTUNE_DISPATCH(add_pairs_to_query_rows_f32)(pairs, keys, n, a, am, b, bm, c, cm);
}

}  // namespace attune::kernels
#endif
