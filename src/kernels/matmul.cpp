// Products of the layers on top of the broadcast product (product-inl.h), which reads a in place, row-major or
// transposed.
//
//   many rows           op(b) is packed into panels of kPanel columns, k by k, so that the inner loop walks through
//                       memory once and a transposed b costs one pass; then tiles of c are computed in parallel, each
//                       tile in chunks of k whose panel stays in the second-level cache.
//   few rows, b^T       every element is a dot product of two contiguous rows; nothing is packed (decoding).
//   few rows, b         the broadcast product reads b in place.
//
// A sum runs over k in rising order whatever the tile, so tiles may be cut freely: by the problem, never by threads.
//
// Ladder, share of the multiply-add peak over all products of a GPT's step (4 x 128, 6 x 384, 8,192 pieces; AVX-512):
//   88.0 %  panels of 64 columns, chunks of 256 along k, a transposed a read in place or copied as [k][96]
//   91.5 %  chunks of 512: c is loaded and stored half as often; wide outputs are cut along the columns, not along k
//   92.5 %  a transposed a is copied in groups of 12 rows, once for all columns of a tile; panels begin on cache lines
//   93.2 %  the next rows of a transposed a are fetched during the product, b is packed along its rows
//   94.0 %  large tensors on huge pages (autograd/memory.cpp): the strided reads of packing miss the TLB no more
// docs/decisions/0013-training-step.md has the libraries beside it and what did not help.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul.cpp"
#include "kernels/matmul.hpp"

#include "kernels/dispatch.hpp"
#include "kernels/matmul_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"
#include "kernels/math-inl.h"
#include "kernels/matmul_pack-inl.h"
#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T>
int panel_width() {
  return kPanel<T>;
}

/// f and f' of the same number: Phi and phi of gelu, and the sigmoid of silu, serve both. The bounds keep an infinity
/// times 0 from becoming NaN where the limit is 0 or 1.
template <class T>
struct ValueAndSlope {
  Vec<T> value, slope;
};
template <class T>
HWY_INLINE ValueAndSlope<T> gelu_and_slope(Vec<T> x) {
  const Vec<T> b = bounded(x, -kGeluLow<T>);
  const Normal<T> normal = normal_of<T>(b);
  return {hn::Mul(bounded_below(x, kGeluLow<T>), normal.distribution),
          hn::MulAdd(b, normal.density, normal.distribution)};
}
template <class T>
HWY_INLINE ValueAndSlope<T> silu_and_slope(Vec<T> x) {
  const Vec<T> b = bounded(x, -kSiluLow<T>), p = sigmoid_of<T>(b), q = sigmoid_of<T>(hn::Neg(b));
  return {hn::Mul(bounded_below(x, kSiluLow<T>), p), hn::MulAdd(hn::Mul(b, p), q, p)};
}

/// c = f(c), slope = f'(c).
template <class T, class F>
HWY_INLINE void finish_both(std::int64_t n, T* c, T* slope, F f) {
  constexpr int kL = kLaneCount<T>;
  std::int64_t i = 0;
  for (; i + kL <= n; i += kL) {
    const ValueAndSlope<T> y = f(load(c + i));
    store(y.value, c + i);
    store(y.slope, slope + i);
  }
  if (i < n) {
    const int rest = int(n - i);
    const ValueAndSlope<T> y = f(load_first(c + i, rest));
    store_first(y.value, c + i, rest);
    store_first(y.slope, slope + i, rest);
  }
}

template <class T>
HWY_INLINE void finish_row(Epilogue f, std::int64_t n, T* c, T* slope) {
  using V = Vec<T>;
  const V one = set(T(1));
  switch (f) {
    case Epilogue::none:
      if (slope) map(n, c, slope, [one](V) HWY_ATTR { return one; });
      return;
    case Epilogue::relu:
      if (slope) {
        map(n, c, slope, [one](V v) HWY_ATTR { return hn::IfThenElse(hn::Le(v, zero<T>()), zero<T>(), one); });
      }
      return map(n, c, c, [](V v) HWY_ATTR { return relu_of<T>(v); });
    case Epilogue::gelu:
      if (slope) return finish_both(n, c, slope, [](V v) HWY_ATTR { return gelu_and_slope<T>(v); });
      return map(n, c, c, [](V v) HWY_ATTR { return gelu_of<T>(v); });
    case Epilogue::silu:
      if (slope) return finish_both(n, c, slope, [](V v) HWY_ATTR { return silu_and_slope<T>(v); });
      return map(n, c, c, [](V v) HWY_ATTR { return silu_of<T>(v); });
  }
}

/// The epilogue over part of c.
template <class T>
void finish(const Matmul<T>& p, std::int64_t row0, std::int64_t rows, std::int64_t column0, std::int64_t columns) {
  if (p.epilogue == Epilogue::none && !p.slope) return;
  for (std::int64_t r = row0; r < row0 + rows; ++r) {
    const std::int64_t at = r * p.c_stride + column0;
    finish_row(p.epilogue, columns, p.c + at, p.slope ? p.slope + at : nullptr);
  }
}

/// What stands in c before a product is added to it.
enum class Before { nothing, itself, start };

/// c[rows][columns] of one panel. start [kPanel], columns past the last are 0.
template <class T>
HWY_INLINE void multiply_panel(Before before, int rows, int columns, int inner, const T* a, std::ptrdiff_t am,
                               std::ptrdiff_t ak, const T* panel, std::ptrdiff_t bk, T* c, std::ptrdiff_t c_stride,
                               T* start) {
  switch (before) {
    case Before::nothing:
      return product_into<Into::overwrite>(rows, columns, inner, a, am, ak, panel, bk, c, c_stride);
    case Before::itself:
      return product_into<Into::add>(rows, columns, inner, a, am, ak, panel, bk, c, c_stride);
    case Before::start:
      return product_into<Into::begin>(rows, columns, inner, a, am, ak, panel, bk, c, c_stride, start);
  }
}

template <class T>
void multiply_tile(const Tile<T>& tile) {
  const Matmul<T>& p = *tile.problem;
  const std::ptrdiff_t ldc = p.c_stride;
  T* c = p.c + tile.row0 * ldc + tile.column0;
  const int rows = int(tile.rows);
  if (tile.inner0 == 0 && p.bias && p.accumulate) {
    for (int r = 0; r < rows; ++r) {
      map(tile.columns, c + r * ldc, p.bias + tile.column0, c + r * ldc,
          [](Vec<T> v, Vec<T> w) HWY_ATTR { return hn::Add(v, w); });
    }
  }
  const std::int64_t chunk = even_part(tile.inner, kInnerChunk, 16);
  for (std::int64_t k = 0; k < tile.inner || k == 0; k += chunk) {
    const int inner = int(tile.inner - k < chunk ? tile.inner - k : chunk);
    const bool first = tile.inner0 + k == 0 && !p.accumulate;
    const Before before = !first ? Before::itself : p.bias ? Before::start : Before::nothing;
    const T* a =
        p.a + (p.transpose_a ? tile.row0 + (tile.inner0 + k) * p.a_stride : tile.row0 * p.a_stride + tile.inner0 + k);
    if (p.transpose_a) {
      T* sums = p.a_sums && tile.column0 == 0 ? p.a_sums + tile.row0 : nullptr;
      pack_rows(a, p.a_stride, rows, inner, tile.rows_of_a, sums);
    }
    NextRows<T> ahead(tile, k + inner,
                      int((tile.columns + kPanel<T> - 1) / kPanel<T> * ((rows + kGroupRows - 1) / kGroupRows)));
    for (std::int64_t j = 0; j < tile.columns; j += kPanel<T>) {
      const int columns = int(tile.columns - j < kPanel<T> ? tile.columns - j : kPanel<T>);
      const T* panel = tile.packed ? tile.packed + (tile.column0 - tile.packed_column + j) * tile.inner + k * kPanel<T>
                                   : p.b + (tile.inner0 + k) * p.b_stride + tile.column0 + j;
      const std::ptrdiff_t bk = tile.packed ? kPanel<T> : p.b_stride;
      T start[kPanel<T>] = {};
      if (before == Before::start) {
        for (int i = 0; i < columns; ++i) start[i] = p.bias[tile.column0 + j + i];
      }
      if (!p.transpose_a) {
        multiply_panel(before, rows, columns, inner, a, p.a_stride, 1, panel, bk, c + j, ldc, start);
        continue;
      }
      for (int r = 0; r < rows; r += int(kGroupRows)) {
        const int group = rows - r < int(kGroupRows) ? rows - r : int(kGroupRows);
        ahead.fetch();
        multiply_panel(before, group, columns, inner, tile.rows_of_a + r * inner, 1, kGroupRows, panel, bk,
                       c + r * ldc + j, ldc, start);
      }
    }
  }
  if (tile.last) finish(p, tile.row0, tile.rows, tile.column0, tile.columns);
}

/// Columns column0 .. of c for few rows and b as it lies. alpha is 1.
template <class T>
void multiply_in_place(const Matmul<T>& p, std::int64_t column0, std::int64_t columns) {
  const std::ptrdiff_t am = p.transpose_a ? 1 : p.a_stride, ak = p.transpose_a ? p.a_stride : 1;
  T* c = p.c + column0;
  const T* b = p.b + column0;
  const int rows = int(p.rows), n = int(columns), k = int(p.inner);
  if (p.accumulate) {
    product_into<Into::add>(rows, n, k, p.a, am, ak, b, p.b_stride, c, p.c_stride);
  } else {
    product_into<Into::overwrite>(rows, n, k, p.a, am, ak, b, p.b_stride, c, p.c_stride);
  }
  if (p.bias) {
    for (int r = 0; r < rows; ++r) {
      T* row = c + r * p.c_stride;
      map(n, row, p.bias + column0, row, [](Vec<T> v, Vec<T> w) HWY_ATTR { return hn::Add(v, w); });
    }
  }
  finish(p, 0, p.rows, column0, columns);
}

/// Dot products of one row of a with kColumns rows of b.
template <int kColumns, class T>
HWY_INLINE void dot_columns(const Matmul<T>& p, std::int64_t row, std::int64_t column) {
  constexpr int kL = kLaneCount<T>;
  const T* a = p.a + row * p.a_stride;
  const T* b = p.b + column * p.b_stride;
  Vec<T> sum[kColumns][2];
  ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) sum[j][0] = sum[j][1] = zero<T>();
  std::int64_t k = 0;
  for (; k + 2 * kL <= p.inner; k += 2 * kL) {
    const Vec<T> x = load(a + k), y = load(a + k + kL);
    ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) {
      sum[j][0] = hn::MulAdd(x, load(b + j * p.b_stride + k), sum[j][0]);
      sum[j][1] = hn::MulAdd(y, load(b + j * p.b_stride + k + kL), sum[j][1]);
    }
  }
  for (; k < p.inner; k += kL) {
    const int n = p.inner - k < kL ? int(p.inner - k) : kL;
    const Vec<T> x = load_first(a + k, n);
    ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) {
      sum[j][0] = hn::MulAdd(x, load_first(b + j * p.b_stride + k, n), sum[j][0]);
    }
  }
  T* c = p.c + row * p.c_stride + column;
  ATTUNE_UNROLL for (int j = 0; j < kColumns; ++j) {
    T x = p.alpha * sum_of_lanes<T>(hn::Add(sum[j][0], sum[j][1]));
    if (p.accumulate) x += c[j];
    if (p.bias) x += p.bias[column + j];
    c[j] = x;
  }
}

/// Columns column0 .. of c for few rows and a transposed b: the rows of b stay in the cache from row to row of a.
template <class T>
void multiply_by_dots(const Matmul<T>& p, std::int64_t column0, std::int64_t columns) {
  std::int64_t j = column0;
  for (; j + 4 <= column0 + columns; j += 4) {
    for (std::int64_t r = 0; r < p.rows; ++r) dot_columns<4>(p, r, j);
  }
  for (; j < column0 + columns; ++j) {
    for (std::int64_t r = 0; r < p.rows; ++r) dot_columns<1>(p, r, j);
  }
  finish(p, 0, p.rows, column0, columns);
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/ranges.hpp"

namespace attune::kernels {
namespace {

template <class T>
bool alone(const Matmul<T>& p) {
  return p.rows * p.columns * p.inner < kAloneProduct;
}

template <class T>
void multiply_few_rows(const Matmul<T>& p) {
  const auto run = p.transpose_b ? ATTUNE_DISPATCH(multiply_by_dots<T>) : ATTUNE_DISPATCH(multiply_in_place<T>);
  const std::int64_t columns = few_rows_columns(p.rows, p.columns, p.inner);
  for_parts((p.columns + columns - 1) / columns, alone(p),
            [&](std::int64_t i) { run(p, i * columns, std::min(columns, p.columns - i * columns)); });
}

/// The first number of a cache line in a buffer of n numbers that the calling thread keeps.
template <class T, class Tag>
T* aligned_scratch(std::int64_t n) {
  constexpr std::size_t kLine = 64;
  T* p = scratch<T, Tag>(std::size_t(n) + kLine / sizeof(T));
  return p + (kLine - reinterpret_cast<std::uintptr_t>(p) % kLine) % kLine / sizeof(T);
}

/// One block of columns and one pass over k.
template <class T>
void multiply_block(const Matmul<T>& p, std::int64_t column, std::int64_t columns, std::int64_t k, std::int64_t inner,
                    T* packed) {
  struct RowsOfA;
  const auto pack = ATTUNE_DISPATCH(pack_columns<T>);
  const auto multiply = ATTUNE_DISPATCH(multiply_tile<T>);
  const std::int64_t width = ATTUNE_DISPATCH(panel_width<T>)();
  const T* b = p.b + (p.transpose_b ? k + column * p.b_stride : k * p.b_stride + column);
  const std::int64_t part = pack_part(columns, inner, width, p.transpose_b);
  if (packed == nullptr) {
    // b is read as it lies.
  } else if (p.transpose_b) {
    for_parts((columns + part - 1) / part, alone(p), [&](std::int64_t i) {
      const std::int64_t first = i * part, count = std::min(part, columns - first);
      pack(b + first * p.b_stride, p.b_stride, true, count, 0, inner, inner, p.alpha, packed + first * inner);
    });
  } else {
    for_parts((inner + part - 1) / part, alone(p), [&](std::int64_t i) {
      pack(b, p.b_stride, false, columns, i * part, std::min(inner, (i + 1) * part), inner, p.alpha, packed);
    });
  }
  const TileCut cut = cut_tiles(p.rows, columns, inner, width, p.transpose_a);
  const std::int64_t column_tiles = (columns + cut.columns - 1) / cut.columns;
  for_parts((p.rows + cut.rows - 1) / cut.rows * column_tiles, alone(p), [&](std::int64_t task) {
    // Neighbours in time share the rows of a; the panels of b are the larger part and stay in a shared cache.
    const std::int64_t row0 = task / column_tiles * cut.rows, column0 = task % column_tiles * cut.columns;
    multiply(Tile<T>{.problem = &p,
                     .packed = packed,
                     .rows_of_a = p.transpose_a ? aligned_scratch<T, RowsOfA>(kTileRows * kInnerChunk) : nullptr,
                     .row0 = row0,
                     .rows = std::min(cut.rows, p.rows - row0),
                     .column0 = column + column0,
                     .columns = std::min(cut.columns, columns - column0),
                     .packed_column = column,
                     .inner0 = k,
                     .inner = inner,
                     .last = k + inner >= p.inner});
  });
}

template <class T>
void multiply_many_rows(const Matmul<T>& p) {
  struct Packed;
  const std::int64_t width = ATTUNE_DISPATCH(panel_width<T>)();
  const bool in_place = reads_b_in_place(p);
  const BlockCut block = in_place ? BlockCut{p.columns, std::max<std::int64_t>(1, p.inner)}
                                  : cut_blocks(p.columns, p.inner, width, sizeof(T));
  const std::int64_t widest = (std::min(p.columns, block.columns) + width - 1) / width * width;
  T* packed = in_place ? nullptr : aligned_scratch<T, Packed>(widest * block.inner);
  for (std::int64_t column = 0; column < p.columns; column += block.columns) {
    for (std::int64_t k = 0; k < p.inner || k == 0; k += block.inner) {
      multiply_block(p, column, std::min(block.columns, p.columns - column), k, std::min(block.inner, p.inner - k),
                     packed);
    }
  }
}

}  // namespace

template <class T>
void matmul(const Matmul<T>& p) {
  if (p.rows == 0 || p.columns == 0) return;
  if (p.a_sums) return multiply_many_rows(p);  // which is where they are made
  const bool dots = p.transpose_b && !p.transpose_a && p.rows <= kMostRowsOfDots;
  const bool in_place = !p.transpose_b && p.alpha == T(1) && p.rows <= kMostRowsInPlace;
  if (dots || in_place) {
    multiply_few_rows(p);
  } else {
    multiply_many_rows(p);
  }
}

template <class T>
void matmul_batched(const Matmul<T>& p, std::int64_t batch, std::int64_t a_step, std::int64_t b_step,
                    std::int64_t c_step) {
  const auto one = [&](std::int64_t i) {
    Matmul<T> q = p;
    q.a += i * a_step;
    q.b += i * b_step;
    q.c += i * c_step;
    if (q.slope) q.slope += i * c_step;
    matmul(q);
  };
  if (p.rows * p.columns * p.inner < kLargeProduct) {
    parallel_for(batch, one);
  } else {
    for (std::int64_t i = 0; i < batch; ++i) one(i);
  }
}

template void matmul<float>(const Matmul<float>&);
template void matmul<double>(const Matmul<double>&);
template void matmul_batched<float>(const Matmul<float>&, std::int64_t, std::int64_t, std::int64_t, std::int64_t);
template void matmul_batched<double>(const Matmul<double>&, std::int64_t, std::int64_t, std::int64_t, std::int64_t);

}  // namespace attune::kernels
#endif
