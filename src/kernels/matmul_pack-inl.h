// Packing for the matrix product: b into panels, rows of a transposed a side by side, and fetching what comes next.
// Included once per target (see dispatch.hpp).
#if defined(ATTUNE_KERNELS_MATMUL_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_MATMUL_PACK_INL_H_
#undef ATTUNE_KERNELS_MATMUL_PACK_INL_H_
#else
#define ATTUNE_KERNELS_MATMUL_PACK_INL_H_
#endif

#include "kernels/map-inl.h"
#include "kernels/matmul_plan.hpp"
#include "kernels/product-inl.h"
#include "kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Columns of a panel of b: the widest block of registers.
template <class T>
constexpr int kPanel = kMaxVectors* kLaneCount<T>;

/// packed[panel][k][j] = alpha * op(b)[k][panel * kPanel + j] for `columns` columns and k = first .. end - 1 of
/// `inner`; b points at op(b)[0][0] of this block.
template <class T>
void pack_columns(const T* b, std::int64_t stride, bool transposed, std::int64_t columns, std::int64_t first,
                  std::int64_t end, std::int64_t inner, T alpha, T* packed) {
  constexpr std::int64_t kP = kPanel<T>;
  if (transposed) {
    // Chunks of k that leave both sides in the first-level cache.
    for (std::int64_t j = 0; j < columns; j += kP) {
      const int count = int(columns - j < kP ? columns - j : kP);
      for (std::int64_t k = first; k < end; k += 64) {
        const int chunk = int(end - k < 64 ? end - k : 64);
        transpose_into<false, false>(b + j * stride + k, stride, count, chunk, packed + j * inner + k * kP, kP, &alpha);
      }
    }
    return;
  }
  const Vec<T> factor = set(alpha);
  for (std::int64_t k = first; k < end; ++k) {  // along the rows, as the memory's prefetching likes it
    for (std::int64_t j = 0; j < columns; j += kP) {
      map(columns - j < kP ? columns - j : kP, b + k * stride + j, packed + j * inner + k * kP,
          [factor](Vec<T> v) HWY_ATTR { return hn::Mul(factor, v); });
    }
  }
}

/// Numbers of a transposed a lie far apart along k, on pages and in cache sets of their own: they are copied, group of
/// kGroupRows after group, each [inner][kGroupRows], so that a block of rows reads one stream. Their sums over k are
/// added to sums [rows], if given.
template <class T>
HWY_INLINE void pack_rows(const T* a, std::ptrdiff_t a_stride, int rows, int inner, T* packed, T* sums) {
  const auto copy = [](Vec<T> v) HWY_ATTR { return v; };
  const auto plus = [](Vec<T> v, Vec<T> w) HWY_ATTR { return hn::Add(v, w); };
  T chunk[kTileRows] = {};
  for (int k = 0; k < inner; ++k, a += a_stride) {
    T* to = packed + k * kGroupRows;
    int r = 0;
    for (; r + kGroupRows <= rows; r += kGroupRows, to += inner * kGroupRows) map(kGroupRows, a + r, to, copy);
    if (r < rows) map(rows - r, a + r, to, copy);
    if (sums) map(rows, chunk, a, chunk, plus);
  }
  if (sums) map(rows, sums, chunk, sums, plus);
}

/// Fetches what pack_rows() will read next, a little before every block of rows: lines on so many pages come too slowly
/// when they are asked for all at once.
template <class T>
struct NextRows {
  const char* at = nullptr;
  std::ptrdiff_t stride = 0;
  int rows = 0, bytes = 0, each = 0;
  /// k: where in the tile's pass the next chunk begins; calls: how often fetch() will be called before it.
  NextRows(const Tile<T>& tile, std::int64_t k, int calls) {
    const Matmul<T>& p = *tile.problem;
    std::int64_t row = tile.row0, count = tile.rows;
    if (k >= tile.inner) {  // the tile below is the likely next task
      k = 0;
      row += tile.rows;
      count = p.rows - row < count ? p.rows - row : count;
    }
    if (count <= 0) return;
    at = reinterpret_cast<const char*>(p.a + row + (tile.inner0 + k) * p.a_stride);
    stride = p.a_stride * std::ptrdiff_t(sizeof(T));
    bytes = int(count) * int(sizeof(T));
    const std::int64_t chunk = even_part(tile.inner, kInnerChunk, 16);
    rows = int(tile.inner - k < chunk ? tile.inner - k : chunk);
    each = (rows + calls - 1) / calls;
  }
  HWY_INLINE void fetch() {
    for (int i = 0; i < each && rows > 0; ++i, --rows, at += stride) {
      for (int b = 0; b < bytes; b += 64) __builtin_prefetch(at + b, 0, 2);
    }
  }
};

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
