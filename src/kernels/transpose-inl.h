// Transposes of small matrices. A vector is gathered from 128-bit blocks of rows that lie a block apart, so that
// transposing inside of every block (4 x 4 floats, 2 x 2 doubles) leaves whole vectors of one column: the same on every
// target that has such registers; edges and the one-lane target in plain loops. Included once per target.
//
// Measured on 64 x 64 floats in cache, AVX-512, cycles a number: 4 x 4 squares stored one by one 0.46, whole vectors
// 0.29.
#if defined(ATTUNE_KERNELS_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTUNE_KERNELS_TRANSPOSE_INL_H_
#undef ATTUNE_KERNELS_TRANSPOSE_INL_H_
#else
#define ATTUNE_KERNELS_TRANSPOSE_INL_H_
#endif

#include "kernels/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
/// Numbers in a row of a block.
template <class T>
constexpr int kSide = int(16 / sizeof(T));

/// One row of every block of the vector: block i from p + i * step.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* p, [[maybe_unused]] std::ptrdiff_t step) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  if constexpr (hn::MaxLanes(D()) > kSide<T>) {
    const hn::Half<D> half;
    constexpr std::ptrdiff_t kBlocks = std::ptrdiff_t(hn::MaxLanes(D()) / 2 / kSide<T>);
    return hn::Combine(d, load_blocks(half, p + kBlocks * step, step), load_blocks(half, p, step));
  } else
#endif
    return hn::LoadU(d, p);
}

/// Transposes every block of the vectors r[0] .. r[kSide - 1] where it lies.
template <class D, class V>
HWY_INLINE void transpose_each_block(D d, V (&r)[4]) {
  const hn::RepartitionToWide<D> pairs;
  const auto a = hn::BitCast(pairs, hn::InterleaveLower(d, r[0], r[1]));
  const auto b = hn::BitCast(pairs, hn::InterleaveLower(d, r[2], r[3]));
  const auto e = hn::BitCast(pairs, hn::InterleaveUpper(d, r[0], r[1]));
  const auto f = hn::BitCast(pairs, hn::InterleaveUpper(d, r[2], r[3]));
  r[0] = hn::BitCast(d, hn::InterleaveLower(pairs, a, b));
  r[1] = hn::BitCast(d, hn::InterleaveUpper(pairs, a, b));
  r[2] = hn::BitCast(d, hn::InterleaveLower(pairs, e, f));
  r[3] = hn::BitCast(d, hn::InterleaveUpper(pairs, e, f));
}
template <class D, class V>
HWY_INLINE void transpose_each_block(D d, V (&r)[2]) {
  const V a = hn::InterleaveLower(d, r[0], r[1]);
  r[1] = hn::InterleaveUpper(d, r[0], r[1]);
  r[0] = a;
}

/// As many rows from `row` on as fill whole vectors of D, all whole blocks of columns. Returns the first row left.
template <bool kAdd, bool kPerColumn, class D, class T>
HWY_INLINE int transpose_rows(D d, const T* src, std::ptrdiff_t src_stride, int row, int rows, int cols, T* dst,
                              std::ptrdiff_t dst_stride, const T* scale) {
  for (; row + int(hn::Lanes(d)) <= rows; row += int(hn::Lanes(d))) {
    for (int c = 0; c + kSide<T> <= cols; c += kSide<T>) {
      hn::Vec<D> x[kSide<T>];
      ATTUNE_UNROLL for (int i = 0; i < kSide<T>; ++i) x[i] =
          load_blocks(d, src + (row + i) * src_stride + c, kSide<T> * src_stride);
      transpose_each_block(d, x);
      ATTUNE_UNROLL for (int i = 0; i < kSide<T>; ++i) {
        T* to = dst + (c + i) * dst_stride + row;
        x[i] = hn::Mul(x[i], hn::Set(d, scale[kPerColumn ? c + i : 0]));
        if constexpr (kAdd) x[i] = hn::Add(x[i], hn::LoadU(d, to));
        hn::StoreU(x[i], d, to);
      }
    }
  }
  return row;
}
#endif

/// dst[c][r] = factor * src[r][c], or += with kAdd. The factor is *scale, or scale[c] with kPerColumn.
template <bool kAdd, bool kPerColumn, class T>
HWY_NOINLINE void transpose_into(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst,
                                 std::ptrdiff_t dst_stride, const T* scale) {
  int whole_rows = 0, whole_cols = 0;
#if HWY_TARGET != HWY_SCALAR
  whole_cols = cols / kSide<T> * kSide<T>;
  whole_rows = transpose_rows<kAdd, kPerColumn>(Lanes<T>(), src, src_stride, 0, rows, cols, dst, dst_stride, scale);
  whole_rows = transpose_rows<kAdd, kPerColumn>(hn::FixedTag<T, 16 / sizeof(T)>(), src, src_stride, whole_rows, rows,
                                                cols, dst, dst_stride, scale);
#endif
  const auto edge = [&](int r, int c) HWY_ATTR {
    const T x = src[r * src_stride + c] * scale[kPerColumn ? c : 0];
    T& to = dst[c * dst_stride + r];
    to = kAdd ? x + to : x;
  };
  for (int c = 0; c < whole_cols; ++c) {
    for (int r = whole_rows; r < rows; ++r) edge(r, c);
  }
  for (int c = whole_cols; c < cols; ++c) {
    for (int r = 0; r < rows; ++r) edge(r, c);
  }
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
