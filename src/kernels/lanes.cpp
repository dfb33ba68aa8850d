// lanes.hpp, compiled per target and exported.
//
// The ladder of a dense bias and its gradient, over the plain path, (1, 8, 1024, 64), forward / backward (AVX-512, Zen
// 4):
//   blocks of 4 x 4, transposed and added one by one                                             21 / 22 %
//   lines of memory read once each, in squares; rows written four at a time, to their end         20 / 18 %
//   the tile after the next is fetched while this one's products run                              17 / 14 %
//   arrays that begin at a line of the cache, as those of tensors do                              15 / 12 %
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lanes.cpp"
#include "kernels/lanes.hpp"

#include <limits>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

/// Calls f(first column, lanes) for every vector of n columns; lanes is a constant for all but the last.
template <class T, class F>
HWY_INLINE void over_columns(int n, F f) {
  constexpr int kL = kLaneCount<T>;
  int c = 0;
  for (; c + kL <= n; c += kL) f(c, std::integral_constant<int, kL>());
  if (c < n) f(c, n - c);
}
// A whole vector where the number of lanes is a constant, else the first n lanes.
template <class T, int kL>
HWY_INLINE Vec<T> read(const T* p, std::integral_constant<int, kL>) {
  return load(p);
}
template <class T>
HWY_INLINE Vec<T> read(const T* p, int n) {
  return load_first(p, n);
}
template <class T, int kL>
HWY_INLINE void write(Vec<T> v, T* p, std::integral_constant<int, kL>) {
  store(v, p);
}
template <class T>
HWY_INLINE void write(Vec<T> v, T* p, int n) {
  store_first(v, p, n);
}

template <class T>
HWY_INLINE void hide_tile(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {
  const std::uint64_t all = queries >= 64 ? ~std::uint64_t(0) : (std::uint64_t(1) << queries) - 1;
  for (int j = 0; j < keys; ++j) {
    if ((bits[j] & all) == all) continue;
    T* row = x + j * stride;
    over_columns<T>(queries, [&](int c, auto n) HWY_ATTR {
      const std::uint64_t word = bits[j] >> c;  // eight readable bytes, as LoadMaskBits wants them
      const auto seen = hn::LoadMaskBits(Lanes<T>(), reinterpret_cast<const std::uint8_t*>(&word));
      write<T>(hn::IfThenElse(seen, read(row + c, n), set(value)), row + c, n);
    });
  }
}

template <class T>
HWY_INLINE void scale_lanes_tile(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {
  over_columns<T>(queries, [&](int c, auto n) HWY_ATTR {
    const Vec<T> f = read(factor + c, n);
    for (int r = 0; r < rows; ++r) write<T>(hn::Mul(read(x + r * stride + c, n), f), x + r * stride + c, n);
  });
}

template <class T>
HWY_INLINE void add_scaled(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,
                           std::ptrdiff_t y_stride) {
  const Vec<T> f = set(scale);
  for (int r = 0; r < rows; ++r) {
    const T* from = x + r * x_stride;
    T* to = y + r * y_stride;
    over_columns<T>(
        cols, [&](int c, auto n) HWY_ATTR { write<T>(hn::MulAdd(f, read(from + c, n), read(to + c, n)), to + c, n); });
  }
}

template <class T>
HWY_INLINE void scaled(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,
                       std::ptrdiff_t y_stride) {
  const Vec<T> f = set(scale);
  for (int r = 0; r < rows; ++r) {
    const T* from = x + r * x_stride;
    T* to = y + r * y_stride;
    over_columns<T>(cols, [&](int c, auto n) HWY_ATTR { write<T>(hn::Mul(f, read(from + c, n)), to + c, n); });
  }
}

template <class T>
HWY_INLINE bool finite(const T* x, int rows, int cols, std::ptrdiff_t stride) {
  Vec<T> sum = zero<T>();  // of x - x, which is 0 for all but NaN and infinity
  for (int r = 0; r < rows; ++r) {
    over_columns<T>(cols, [&](int c, auto n) HWY_ATTR {
      const Vec<T> v = read(x + r * stride + c, n);
      sum = hn::Add(sum, hn::Sub(v, v));
    });
  }
  return hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum)) == T(0);
}

template <class T>
HWY_INLINE void dots(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,
                     T* out) {
  for (int r = 0; r < rows; ++r) {
    Vec<T> sum = zero<T>();
    over_columns<T>(cols, [&](int c, auto n) HWY_ATTR {
      sum = hn::MulAdd(read(a + r * a_stride + c, n), read(b + r * b_stride + c, n), sum);
    });
    out[r] = hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum));
  }
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
/// 128-bit blocks of a vector.
template <class T>
constexpr int kBlocks = kLaneCount<T> / kSide<T>;

#if HWY_TARGET == HWY_AVX3
template <int kWhich>
HWY_INLINE Vec<float> every_other_block(Vec<float> a, Vec<float> b) {
  return Vec<float>{_mm512_shuffle_f32x4(a.raw, b.raw, kWhich)};
}
template <int kWhich>
HWY_INLINE Vec<double> every_other_block(Vec<double> a, Vec<double> b) {
  return Vec<double>{_mm512_shuffle_f64x2(a.raw, b.raw, kWhich)};
}
#endif

/// Transposes the 128-bit blocks of kBlocks<T> vectors, a square of blocks.
template <class T>
HWY_INLINE void transpose_blocks(Vec<T> (&r)[kBlocks<T>]) {
  const Lanes<T> d;
#if HWY_TARGET == HWY_AVX3
  const Vec<T> a = hn::ConcatLowerLower(d, r[1], r[0]), b = hn::ConcatLowerLower(d, r[3], r[2]);
  const Vec<T> e = hn::ConcatUpperUpper(d, r[1], r[0]), f = hn::ConcatUpperUpper(d, r[3], r[2]);
  r[0] = every_other_block<0x88>(a, b);
  r[1] = every_other_block<0xdd>(a, b);
  r[2] = every_other_block<0x88>(e, f);
  r[3] = every_other_block<0xdd>(e, f);
#else
  const Vec<T> upper = hn::ConcatUpperUpper(d, r[1], r[0]);
  r[0] = hn::ConcatLowerLower(d, r[1], r[0]);
  r[1] = upper;
#endif
}

/// dst[c][r] += src[r][c] for a square as wide as a vector. Every row of src is read once, whole: rows that lie a large
/// power of two apart share one set of the first-level cache, and read piece by piece each would come from the second
/// level again every time.
template <class T>
HWY_INLINE void add_square(const T* src, std::ptrdiff_t src_stride, T* dst, std::ptrdiff_t dst_stride) {
  Vec<T> r[kSide<T>][kBlocks<T>];  // [row within its block][block of rows]
  ATTUNE_UNROLL for (int b = 0; b < kBlocks<T>; ++b) {
    Vec<T> x[kSide<T>];
    ATTUNE_UNROLL for (int i = 0; i < kSide<T>; ++i) x[i] = load(src + (b * kSide<T> + i) * src_stride);
    transpose_each_block(Lanes<T>(), x);
    ATTUNE_UNROLL for (int i = 0; i < kSide<T>; ++i) r[i][b] = x[i];
  }
  ATTUNE_UNROLL for (int i = 0; i < kSide<T>; ++i) {
    transpose_blocks<T>(r[i]);
    ATTUNE_UNROLL for (int b = 0; b < kBlocks<T>; ++b) {
      T* to = dst + (b * kSide<T> + i) * dst_stride;
      store(hn::Add(load(to), r[i][b]), to);
    }
  }
}
#endif

/// dst[c][r] += src[r][c] in the general way, from row r and column c on.
template <class T>
HWY_INLINE void add_edge(const T* src, std::ptrdiff_t src_stride, int r, int rows, int c, int cols, T* dst,
                         std::ptrdiff_t dst_stride) {
  const T one = 1;
  if (r < rows && c < cols) {
    transpose_into<true, false>(src + r * src_stride + c, src_stride, rows - r, cols - c, dst + c * dst_stride + r,
                                dst_stride, &one);
  }
}

template <class T>
HWY_INLINE void add_from(const T* rows, std::ptrdiff_t row_stride, int queries, int keys, T* tile,
                         std::ptrdiff_t tile_stride) {
  int whole_queries = 0, whole_keys = 0;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  constexpr int kL = kLaneCount<T>;
  whole_queries = queries / kL * kL;
  whole_keys = keys / kL * kL;
  for (int i = 0; i < whole_queries; i += kL) {
    for (int j = 0; j < whole_keys; j += kL)
      add_square(rows + i * row_stride + j, row_stride, tile + j * tile_stride + i, tile_stride);
  }
#endif
  add_edge(rows, row_stride, 0, whole_queries, whole_keys, keys, tile, tile_stride);
  add_edge(rows, row_stride, whole_queries, queries, 0, keys, tile, tile_stride);
}

template <class T>
HWY_INLINE void add_to(const T* tile, std::ptrdiff_t tile_stride, int keys, int queries, T* rows,
                       std::ptrdiff_t row_stride) {
  int whole_keys = 0, whole_queries = 0;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  constexpr int kL = kLaneCount<T>, kS = kSide<T>;
  whole_keys = keys / kL * kL;
  whole_queries = queries / kS * kS;
  // A few rows at a time, and these to their end: rows that lie a large power of two apart share sets of the
  // first-level cache, and a line that has left before its store arrives must be fetched again, one store after the
  // other (33 cycles a vector in squares, 7 so).
  for (int i = 0; i < whole_queries; i += kS) {
    for (int j = 0; j < whole_keys; j += kL) {
      Vec<T> x[kS];
      ATTUNE_UNROLL for (int n = 0; n < kS; ++n) x[n] =
          load_blocks(Lanes<T>(), tile + (j + n) * tile_stride + i, kS * tile_stride);
      transpose_each_block(Lanes<T>(), x);
      ATTUNE_UNROLL for (int n = 0; n < kS; ++n) {
        T* to = rows + (i + n) * row_stride + j;
        store(hn::Add(load(to), x[n]), to);
      }
    }
  }
#endif
  add_edge(tile, tile_stride, 0, whole_keys, whole_queries, queries, rows, row_stride);
  add_edge(tile, tile_stride, whole_keys, keys, 0, queries, rows, row_stride);
}

// One exported name per function and type.
#define ATTUNE_LANES(T, S)                                                                                             \
  void transpose_##S(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst, std::ptrdiff_t dst_stride,   \
                     T scale) {                                                                                        \
    transpose_into<false, false>(src, src_stride, rows, cols, dst, dst_stride, &scale);                                \
  }                                                                                                                    \
  void add_from_rows_##S(const T* rows, std::ptrdiff_t row_stride, int queries, int keys, T* tile,                     \
                         std::ptrdiff_t tile_stride) {                                                                 \
    add_from(rows, row_stride, queries, keys, tile, tile_stride);                                                      \
  }                                                                                                                    \
  void add_to_rows_##S(const T* tile, std::ptrdiff_t tile_stride, int keys, int queries, T* rows,                      \
                       std::ptrdiff_t row_stride) {                                                                    \
    add_to(tile, tile_stride, keys, queries, rows, row_stride);                                                        \
  }                                                                                                                    \
  void hide_##S(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {              \
    hide_tile(x, stride, queries, keys, bits, value);                                                                  \
  }                                                                                                                    \
  void scale_lanes_##S(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {                          \
    scale_lanes_tile(x, stride, rows, queries, factor);                                                                \
  }                                                                                                                    \
  void add_scaled_rows_##S(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,                     \
                           std::ptrdiff_t y_stride) {                                                                  \
    add_scaled(x, x_stride, rows, cols, scale, y, y_stride);                                                           \
  }                                                                                                                    \
  void scaled_rows_##S(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,                         \
                       std::ptrdiff_t y_stride) {                                                                      \
    scaled(x, x_stride, rows, cols, scale, y, y_stride);                                                               \
  }                                                                                                                    \
  bool all_finite_##S(const T* x, int rows, int cols, std::ptrdiff_t stride) { return finite(x, rows, cols, stride); } \
  void dot_rows_##S(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,      \
                    T* out) {                                                                                          \
    dots(a, a_stride, b, b_stride, rows, cols, out);                                                                   \
  }
ATTUNE_LANES(float, f32)
ATTUNE_LANES(double, f64)
#undef ATTUNE_LANES

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

#define ATTUNE_LANES(T, S)                                                                                            \
  void transpose(const T* src, std::ptrdiff_t src_stride, int rows, int cols, T* dst, std::ptrdiff_t dst_stride,      \
                 T scale) {                                                                                           \
    ATTUNE_DISPATCH(transpose_##S)(src, src_stride, rows, cols, dst, dst_stride, scale);                              \
  }                                                                                                                   \
  void add_from_rows(const T* rows, std::ptrdiff_t row_stride, int queries, int keys, T* tile,                        \
                     std::ptrdiff_t tile_stride) {                                                                    \
    ATTUNE_DISPATCH(add_from_rows_##S)(rows, row_stride, queries, keys, tile, tile_stride);                           \
  }                                                                                                                   \
  void add_to_rows(const T* tile, std::ptrdiff_t tile_stride, int keys, int queries, T* rows,                         \
                   std::ptrdiff_t row_stride) {                                                                       \
    ATTUNE_DISPATCH(add_to_rows_##S)(tile, tile_stride, keys, queries, rows, row_stride);                             \
  }                                                                                                                   \
  void hide(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, T value) {                 \
    ATTUNE_DISPATCH(hide_##S)(x, stride, queries, keys, bits, value);                                                 \
  }                                                                                                                   \
  void hide(T* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits) {                          \
    hide(x, stride, queries, keys, bits, -std::numeric_limits<T>::infinity());                                        \
  }                                                                                                                   \
  void scale_lanes(T* x, std::ptrdiff_t stride, int rows, int queries, const T* factor) {                             \
    ATTUNE_DISPATCH(scale_lanes_##S)(x, stride, rows, queries, factor);                                               \
  }                                                                                                                   \
  void add_scaled_rows(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y,                        \
                       std::ptrdiff_t y_stride) {                                                                     \
    ATTUNE_DISPATCH(add_scaled_rows_##S)(x, x_stride, rows, cols, scale, y, y_stride);                                \
  }                                                                                                                   \
  void scaled_rows(const T* x, std::ptrdiff_t x_stride, int rows, int cols, T scale, T* y, std::ptrdiff_t y_stride) { \
    ATTUNE_DISPATCH(scaled_rows_##S)(x, x_stride, rows, cols, scale, y, y_stride);                                    \
  }                                                                                                                   \
  bool all_finite(const T* x, int rows, int cols, std::ptrdiff_t stride) {                                            \
    return ATTUNE_DISPATCH(all_finite_##S)(x, rows, cols, stride);                                                    \
  }                                                                                                                   \
  void dot_rows(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int rows, int cols,         \
                T* out) {                                                                                             \
    ATTUNE_DISPATCH(dot_rows_##S)(a, a_stride, b, b_stride, rows, cols, out);                                         \
  }
ATTUNE_LANES(float, f32)
ATTUNE_LANES(double, f64)
#undef ATTUNE_LANES

}  // namespace attune::kernels
#endif
