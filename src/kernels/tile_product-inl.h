// Two forms of the product (product-inl.h) that tiles of a backward need:
//
//   then    c = step(sum_k a b): what would be a pass of its own over a tile, done on the sums while they lie in
//   registers stairs  c[i] += sum_k a b over a range of k that moves with the row i: the diagonal of a causal mask,
//   both edges of
//           a window. Blocks of rows leave out what all of them leave out.
//
// Each sum is taken in the order of k, as in every product. Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_TILE_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_TILE_PRODUCT_INL_H_
#undef ATTUNE_KERNELS_TILE_PRODUCT_INL_H_
#else
#define ATTUNE_KERNELS_TILE_PRODUCT_INL_H_
#endif

#include <algorithm>

#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// kRows x kVectors sums, handed to `step` with where they belong.
template <int kRows, int kVectors, class T, class Step>
HWY_INLINE void block_then(int k, const T* HWY_RESTRICT a, std::ptrdiff_t am, std::ptrdiff_t ak,
                           const T* HWY_RESTRICT b, std::ptrdiff_t bk, const Step& step, std::ptrdiff_t at,
                           int column) {
  constexpr int kL = kLaneCount<T>;
  Vec<T> sum[kRows][kVectors];
  ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[i][j] = zero<T>();
  }
  for (int e = 0; e < k; ++e) {
    Vec<T> row[kVectors];
    ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) row[j] = load(b + j * kL);
    ATTUNE_UNROLL for (int i = 0; i < kRows; ++i) {
      Vec<T> x = set(a[i * am]);
      if constexpr (kVectors > 1) keep_in_register(x);
      ATTUNE_UNROLL for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(x, row[j], sum[i][j]);
    }
    a += ak;
    b += bk;
  }
  step(sum, at, column);
}

template <int kVectors, class T, class Step>
HWY_NOINLINE void columns_then(int m, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                               std::ptrdiff_t bk, const Step& step, int column, Upcoming* ahead) {
  constexpr int kRows = block_rows(kVectors);
  int i = 0;
  for (; i + kRows <= m; i += kRows) {
    if (ahead) ahead->fetch();
    block_then<kRows, kVectors>(k, a + i * am, am, ak, b, bk, step, i, column);
  }
  if (ahead) ahead->fetch();
  if constexpr (kRows > 4 && kAllBlocks<T>) {
    for (; i + 4 <= m; i += 4) block_then<4, kVectors>(k, a + i * am, am, ak, b, bk, step, i, column);
  }
  for (; i + 2 <= m; i += 2) block_then<2, kVectors>(k, a + i * am, am, ak, b, bk, step, i, column);
  if (i < m) block_then<1, kVectors>(k, a + i * am, am, ak, b, bk, step, i, column);
}

/// step(sums [rows][vectors], first row, first column) for all m x n sums; n is a multiple of the lanes.
template <class T, class Step>
HWY_INLINE void product_then(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                             std::ptrdiff_t bk, const Step& step, Upcoming* ahead) {
  for (int j = 0; j < n;) {
    const int take = block_vectors<T>(n - j);
    if (take == 1) {
      columns_then<1>(m, k, a, am, ak, b + j, bk, step, j, ahead);
    } else if (take == 2 || kMostVectors<T> == 2) {
      columns_then<2>(m, k, a, am, ak, b + j, bk, step, j, ahead);
    } else if (take == 3) {
      columns_then<(kMostVectors<T> > 2 ? 3 : 2)>(m, k, a, am, ak, b + j, bk, step, j, ahead);
    } else {
      columns_then<(kMostVectors<T> > 2 ? 4 : 2)>(m, k, a, am, ak, b + j, bk, step, j, ahead);
    }
    j += take * kLaneCount<T>;
  }
}

/// Row i takes part with k from i + first to i + end - 1, of what there is.
struct Stairs {
  int first = -kFar, end = kFar;
  static constexpr int kFar = 1 << 30;
};

/// kRows rows from row i on.
template <int kRows, int kVectors, bool kPartial, class T>
HWY_INLINE void block_stairs(int i, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                             std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, int last, const Stairs& stairs) {
  const int first = std::max(0, i + stairs.first), end = std::min(k, i + kRows - 1 + stairs.end);
  if (first >= end) return;
  product_block<kRows, kVectors, Into::add, kPartial>(end - first, a + i * am + first * ak, am, ak, b + first * bk, bk,
                                                      c + i * cm, cm, static_cast<T*>(nullptr), last);
}

template <int kVectors, bool kPartial, class T>
HWY_NOINLINE void columns_stairs(int m, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                                 std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, int last, const Stairs& stairs,
                                 Upcoming* ahead) {
  constexpr int kRows = block_rows(kVectors);
  int i = 0;
  for (; i + kRows <= m; i += kRows) {
    if (ahead) ahead->fetch();
    block_stairs<kRows, kVectors, kPartial>(i, k, a, am, ak, b, bk, c, cm, last, stairs);
  }
  if (ahead) ahead->fetch();
  if constexpr (kRows > 4 && kAllBlocks<T>) {
    for (; i + 4 <= m; i += 4) block_stairs<4, kVectors, kPartial>(i, k, a, am, ak, b, bk, c, cm, last, stairs);
  }
  for (; i + 2 <= m; i += 2) block_stairs<2, kVectors, kPartial>(i, k, a, am, ak, b, bk, c, cm, last, stairs);
  if (i < m) block_stairs<1, kVectors, kPartial>(i, k, a, am, ak, b, bk, c, cm, last, stairs);
}

/// c[i][n] += sum_k a[i * am + k * ak] * b[k * bk + n], k in the range of row i.
template <class T>
HWY_INLINE void product_stairs(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                               std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, const Stairs& stairs, Upcoming* ahead) {
  constexpr int kL = kLaneCount<T>;
  for (int j = 0; j < n;) {
    const int take = block_vectors<T>(n - j), last = std::min(kL, n - j - (take - 1) * kL);
#define ATTUNE_COLUMNS(V)                                                                 \
  if (kAllBlocks<T> && last == kL) {                                                      \
    columns_stairs<V, false>(m, k, a, am, ak, b + j, bk, c + j, cm, last, stairs, ahead); \
  } else {                                                                                \
    columns_stairs<V, true>(m, k, a, am, ak, b + j, bk, c + j, cm, last, stairs, ahead);  \
  }
    if (take == 1) {
      ATTUNE_COLUMNS(1)
    } else if (take == 2 || kMostVectors<T> == 2) {
      ATTUNE_COLUMNS(2)
    } else if (take == 3) {
      ATTUNE_COLUMNS((kMostVectors<T> > 2 ? 3 : 2))
    } else {
      ATTUNE_COLUMNS((kMostVectors<T> > 2 ? 4 : 2))
    }
#undef ATTUNE_COLUMNS
    j += take * kL;
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
