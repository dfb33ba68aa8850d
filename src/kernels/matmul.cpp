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
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul.cpp"
#include "kernels/matmul.hpp"

#include "kernels/dispatch.hpp"
#include "kernels/matmul_plan.hpp"

#include "hwy/foreach_target.h"

#include "kernels/map-inl.h"
#include "kernels/math-inl.h"
#include "kernels/product-inl.h"
#include "kernels/transpose-inl.h"

#ifndef ATTUNE_KERNELS_MATMUL_ONCE_
#define ATTUNE_KERNELS_MATMUL_ONCE_
namespace attune::kernels {

constexpr std::int64_t kInnerChunk = 256;  // k of one visit to a tile: a panel of 64 floats is then 64 KiB

/// A tile of c, one pass over k = inner0 .. inner0 + inner - 1.
template <class T>
struct Tile {
  const Matmul<T>* problem;
  const T* packed;                            // panel after panel, each [inner][kPanel]
  std::int64_t row0, rows, column0, columns;  // column0 is a multiple of kPanel
  std::int64_t inner0, inner;
  bool last;  // the pass that ends the sums
};

}  // namespace attune::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T>
constexpr int kPanel = kMaxVectors* kLaneCount<T>;

template <class T>
int panel_width() {
  return kPanel<T>;
}

/// panel[k][j] = alpha * op(b)[k][column + j] for `columns` <= kPanel columns and k < inner; b points at op(b)[0][0] of
/// this pass.
template <class T>
void pack_panel(const T* b, std::int64_t stride, bool transposed, std::int64_t column, int columns, std::int64_t inner,
                T alpha, T* panel) {
  if (transposed) {
    const T* from = b + column * stride;
    // Chunks of k that leave both sides in the first-level cache.
    for (std::int64_t k = 0; k < inner; k += 64) {
      const int count = int(inner - k < 64 ? inner - k : 64);
      transpose_into<false, false>(from + k, stride, columns, count, panel + k * kPanel<T>, kPanel<T>, &alpha);
    }
    return;
  }
  const Vec<T> factor = set(alpha);
  for (std::int64_t k = 0; k < inner; ++k) {
    map(columns, b + k * stride + column, panel + k * kPanel<T>,
        [factor](Vec<T> v) HWY_ATTR { return hn::Mul(factor, v); });
  }
}

template <class T>
HWY_INLINE void finish_row(Epilogue f, std::int64_t n, T* c, T* before) {
  if (before) map(n, c, before, [](Vec<T> v) HWY_ATTR { return v; });
  switch (f) {
    case Epilogue::none:
      return;
    case Epilogue::relu:
      return map(n, c, c, [](Vec<T> v) HWY_ATTR { return relu_of<T>(v); });
    case Epilogue::gelu:
      return map(n, c, c, [](Vec<T> v) HWY_ATTR { return gelu_of<T>(v); });
    case Epilogue::silu:
      return map(n, c, c, [](Vec<T> v) HWY_ATTR { return silu_of<T>(v); });
  }
}

/// The epilogue over part of c.
template <class T>
void finish(const Matmul<T>& p, std::int64_t row0, std::int64_t rows, std::int64_t column0, std::int64_t columns) {
  if (p.epilogue == Epilogue::none && !p.before_epilogue) return;
  for (std::int64_t r = row0; r < row0 + rows; ++r) {
    const std::int64_t at = r * p.c_stride + column0;
    finish_row(p.epilogue, columns, p.c + at, p.before_epilogue ? p.before_epilogue + at : nullptr);
  }
}

/// What stands in c before a product is added to it.
enum class Before { nothing, itself, start };

/// c[rows][columns] of one panel. start [kPanel], columns past the last are 0.
template <class T>
HWY_INLINE void multiply_panel(Before before, int rows, int columns, int inner, const T* a, std::ptrdiff_t am,
                               std::ptrdiff_t ak, const T* panel, T* c, std::ptrdiff_t c_stride, T* start) {
  switch (before) {
    case Before::nothing:
      return product_into<Into::overwrite>(rows, columns, inner, a, am, ak, panel, kPanel<T>, c, c_stride);
    case Before::itself:
      return product_into<Into::add>(rows, columns, inner, a, am, ak, panel, kPanel<T>, c, c_stride);
    case Before::start:
      return product_into<Into::begin>(rows, columns, inner, a, am, ak, panel, kPanel<T>, c, c_stride, start);
  }
}

/// Rows of a transposed a that lie a multiple of 2 KiB apart fall into two sets of the first-level cache and push each
/// other out: they are copied side by side (512 x 128 x 2048: 92 instead of 79 GFLOP/s of 118).
template <class T>
HWY_INLINE void pack_rows(const T* a, std::ptrdiff_t a_stride, int rows, int inner, T* packed) {
  for (int k = 0; k < inner; ++k) {
    map(rows, a + k * a_stride, packed + k * kTileRows, [](Vec<T> v) HWY_ATTR { return v; });
  }
}

template <class T>
void multiply_tile(const Tile<T>& tile) {
  alignas(64) static thread_local T packed_rows[kTileRows * kInnerChunk];
  const Matmul<T>& p = *tile.problem;
  const std::ptrdiff_t ldc = p.c_stride;
  T* c = p.c + tile.row0 * ldc + tile.column0;
  const int rows = int(tile.rows);
  const bool copy_a = p.transpose_a && p.a_stride * std::ptrdiff_t(sizeof(T)) % 2048 == 0;
  if (tile.inner0 == 0 && p.bias && p.accumulate) {
    for (int r = 0; r < rows; ++r) {
      map(tile.columns, c + r * ldc, p.bias + tile.column0, c + r * ldc,
          [](Vec<T> v, Vec<T> w) HWY_ATTR { return hn::Add(v, w); });
    }
  }
  for (std::int64_t k = 0; k < tile.inner || k == 0; k += kInnerChunk) {
    const int inner = int(tile.inner - k < kInnerChunk ? tile.inner - k : kInnerChunk);
    const bool first = tile.inner0 + k == 0 && !p.accumulate;
    const Before before = !first ? Before::itself : p.bias ? Before::start : Before::nothing;
    std::ptrdiff_t am = p.transpose_a ? 1 : p.a_stride, ak = p.transpose_a ? p.a_stride : 1;
    const T* a = p.a + tile.row0 * am + (tile.inner0 + k) * ak;
    if (copy_a) {
      pack_rows(a, p.a_stride, rows, inner, packed_rows);
      a = packed_rows;
      ak = kTileRows;
    }
    for (std::int64_t j = 0; j < tile.columns; j += kPanel<T>) {
      const int columns = int(tile.columns - j < kPanel<T> ? tile.columns - j : kPanel<T>);
      const T* panel = tile.packed + (tile.column0 + j) * tile.inner + k * kPanel<T>;
      T start[kPanel<T>] = {};
      if (before == Before::start) {
        for (int i = 0; i < columns; ++i) start[i] = p.bias[tile.column0 + j + i];
      }
      multiply_panel(before, rows, columns, inner, a, am, ak, panel, c + j, ldc, start);
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

template <class T>
void multiply_many_rows(const Matmul<T>& p) {
  struct Packed;
  const auto pack = ATTUNE_DISPATCH(pack_panel<T>);
  const auto multiply = ATTUNE_DISPATCH(multiply_tile<T>);
  const std::int64_t width = ATTUNE_DISPATCH(panel_width<T>)(), panels = (p.columns + width - 1) / width;
  const std::int64_t pass = pass_inner(panels * width, p.inner, sizeof(T));
  T* packed = scratch<T, Packed>(std::size_t(panels * width * pass));
  const TileCut cut = cut_tiles(p.rows, p.columns, pass, width);
  const std::int64_t row_tiles = (p.rows + cut.rows - 1) / cut.rows;
  const std::int64_t column_tiles = (p.columns + cut.columns - 1) / cut.columns;

  for (std::int64_t k = 0; k < p.inner || k == 0; k += pass) {
    const std::int64_t inner = std::min(pass, p.inner - k);
    const T* b = p.b + (p.transpose_b ? k : k * p.b_stride);
    const std::int64_t together = panels_per_task(width, inner);
    for_parts((panels + together - 1) / together, alone(p), [&](std::int64_t part) {
      for (std::int64_t i = part * together; i < std::min(panels, (part + 1) * together); ++i) {
        const int columns = int(std::min(width, p.columns - i * width));
        pack(b, p.b_stride, p.transpose_b, i * width, columns, inner, p.alpha, packed + i * width * inner);
      }
    });
    for_parts(row_tiles * column_tiles, alone(p), [&](std::int64_t task) {
      // Neighbours in time share the rows of a; the panels of b are the larger part and stay in a shared cache.
      const std::int64_t row0 = task / column_tiles * cut.rows, column0 = task % column_tiles * cut.columns;
      multiply(Tile<T>{.problem = &p,
                       .packed = packed,
                       .row0 = row0,
                       .rows = std::min(cut.rows, p.rows - row0),
                       .column0 = column0,
                       .columns = std::min(cut.columns, p.columns - column0),
                       .inner0 = k,
                       .inner = inner,
                       .last = k + pass >= p.inner});
    });
  }
}

}  // namespace

template <class T>
void matmul(const Matmul<T>& p) {
  if (p.rows == 0 || p.columns == 0) return;
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
    if (q.before_epilogue) q.before_epilogue += i * c_step;
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
