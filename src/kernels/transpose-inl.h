// Transposes of small matrices: squares of one 128-bit register at a time (4 x 4 floats, 2 x 2 doubles), the same on
// every target that has such registers; edges and the one-lane target in plain loops. Included once per target.
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
template <class V>
HWY_INLINE void transpose_square(hn::FixedTag<float, 4> d, V (&r)[4]) {
  const V a = hn::InterleaveLower(d, r[0], r[1]), b = hn::InterleaveLower(d, r[2], r[3]);
  const V e = hn::InterleaveUpper(d, r[0], r[1]), f = hn::InterleaveUpper(d, r[2], r[3]);
  r[0] = hn::ConcatLowerLower(d, b, a);
  r[1] = hn::ConcatUpperUpper(d, b, a);
  r[2] = hn::ConcatLowerLower(d, f, e);
  r[3] = hn::ConcatUpperUpper(d, f, e);
}
template <class V>
HWY_INLINE void transpose_square(hn::FixedTag<double, 2> d, V (&r)[2]) {
  const V a = hn::InterleaveLower(d, r[0], r[1]);
  r[1] = hn::InterleaveUpper(d, r[0], r[1]);
  r[0] = a;
}
#endif

/// dst[c][r] = factor * src[r][c], or += with kAdd. The factor is *scale, or scale[c] with kPerColumn.
template <bool kAdd, bool kPerColumn, class T>
HWY_INLINE void transpose_into(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst,
                               std::ptrdiff_t dst_stride, const T* scale) {
  int whole_rows = 0, whole_cols = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr int kSide = int(16 / sizeof(T));
  const hn::FixedTag<T, std::size_t(kSide)> d;
  using V = hn::Vec<decltype(d)>;
  whole_rows = rows / kSide * kSide;
  whole_cols = cols / kSide * kSide;
  V factor = hn::Set(d, scale[0]);
  for (int c = 0; c < whole_cols; c += kSide) {
    if constexpr (kPerColumn) factor = hn::LoadU(d, scale + c);
    for (int r = 0; r < whole_rows; r += kSide) {
      V x[kSide];
      ATTUNE_UNROLL for (int i = 0; i < kSide; ++i) x[i] =
          hn::Mul(factor, hn::LoadU(d, src + (r + i) * src_stride + c));
      transpose_square(d, x);
      ATTUNE_UNROLL for (int i = 0; i < kSide; ++i) {
        T* to = dst + (c + i) * dst_stride + r;
        if constexpr (kAdd) x[i] = hn::Add(x[i], hn::LoadU(d, to));
        hn::StoreU(x[i], d, to);
      }
    }
  }
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
