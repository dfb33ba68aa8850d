// The small steps of the tile loops over any scalar: float and double go to the SIMD kernels, duals through plain
// loops.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "attune/attention/tile.hpp"
#include "attune/base/dropout.hpp"
#include "kernels/dropout.hpp"
#include "kernels/lanes.hpp"
#include "kernels/product.hpp"
#include "kernels/sparse.hpp"

namespace attune::engine {

using detail::kHasKernel;

/// rows [n][cols] -> lanes [cols][stride].
template <class T>
void transpose_rows(Matrix<const T> rows, T* lanes, std::ptrdiff_t stride) {
  if constexpr (kHasKernel<T>) {
    kernels::transpose(rows.data, rows.stride, rows.rows, rows.cols, lanes, stride, T(1));
  } else {
    for (int r = 0; r < rows.rows; ++r) {
      for (int c = 0; c < rows.cols; ++c) lanes[c * stride + r] = rows[r][c];
    }
  }
}
/// lanes [cols][stride] -> rows [n][cols].
template <class T>
void transpose_lanes(const T* lanes, std::ptrdiff_t stride, Matrix<T> rows) {
  if constexpr (kHasKernel<T>) {
    kernels::transpose(lanes, stride, rows.cols, rows.rows, rows.data, rows.stride, T(1));
  } else {
    for (int r = 0; r < rows.rows; ++r) {
      for (int c = 0; c < rows.cols; ++c) rows[r][c] = lanes[c * stride + r];
    }
  }
}
/// -inf where bit i of bits[j] is 0.
template <class T>
void hide_tile(Tile<T>& x, const std::uint64_t* bits) {
  if constexpr (kHasKernel<T>) {
    kernels::hide(x.data, x.stride, x.area.queries, x.area.keys, bits);
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      for (int i = 0; i < x.area.queries; ++i) {
        if (!(bits[j] >> i & 1)) x[j][i] = kHidden<T>;
      }
    }
  }
}
/// 0 where bit i of bits[j] is 0, by selection: a hidden NaN is gone.
template <class T>
void clear_tile(Tile<T>& x, const std::uint64_t* bits) {
  if constexpr (kHasKernel<T>) {
    kernels::hide(x.data, x.stride, x.area.queries, x.area.keys, bits, T(0));
  } else {
    for (int j = 0; j < x.area.keys; ++j) {
      for (int i = 0; i < x.area.queries; ++i) {
        if (!(bits[j] >> i & 1)) x[j][i] = T(0);
      }
    }
  }
}
/// x[r][i] *= factor[i].
template <class T>
void scale_lanes(T* x, std::ptrdiff_t stride, int rows, int lanes, const T* factor) {
  if constexpr (kHasKernel<T>) {
    kernels::scale_lanes(x, stride, rows, lanes, factor);
  } else {
    for (int r = 0; r < rows; ++r) {
      for (int i = 0; i < lanes; ++i) x[r * stride + i] *= factor[i];
    }
  }
}
/// Rows of a product between two fetches, about: a product of m rows fetches m / kFetchRows times.
inline constexpr int kFetchRows = 6;

/// c[m][n] = factor[n] * c[m][n] + sum_k a[m * am + k * ak] * b[k * bk + n]; factor has kLanes numbers.
template <class T>
void rescale_product(int m, int n, int k, const T* a, std::ptrdiff_t am, std::ptrdiff_t ak, const T* b,
                     std::ptrdiff_t bk, T* c, std::ptrdiff_t cm, const T* factor, kernels::Upcoming* ahead) {
  if constexpr (kHasKernel<T>) {
    kernels::rescale_product(m, n, k, a, am, ak, b, bk, c, cm, factor, ahead);
  } else {
    scale_lanes(c, cm, m, n, factor);
    add_product(m, n, k, a, am, ak, b, bk, c, cm);
  }
}
template <class T>
bool all_finite(Matrix<const T> m) {
  if constexpr (kHasKernel<T>) {
    return kernels::all_finite(m.data, m.rows, m.cols, m.stride);
  } else {
    for (int r = 0; r < m.rows; ++r) {
      for (int c = 0; c < m.cols; ++c) {
        if (!is_finite(m[r][c])) return false;
      }
    }
    return true;
  }
}
/// Copies m with every row that holds a NaN or an infinity replaced by zeros, and tells which rows those are.
template <class T, class Memory>
Matrix<const T> without_bad_rows(Matrix<const T> m, Memory& memory, std::vector<char>& bad) {
  if (memory.size() < std::size_t(m.rows) * m.cols) memory.resize(std::size_t(m.rows) * m.cols);
  bad.assign(std::size_t(m.rows), 0);
  for (int r = 0; r < m.rows; ++r) {
    T* to = memory.data() + std::ptrdiff_t(r) * m.cols;
    bad[std::size_t(r)] = !all_finite(m.part(r, 1));
    if (bad[std::size_t(r)])
      std::fill(to, to + m.cols, T(0));
    else
      std::copy(m[r], m[r] + m.cols, to);
  }
  return {memory.data(), m.rows, m.cols, m.cols};
}
/// Whether so few pairs of a tile have a weight that products which look at those alone (kernels/sparse.hpp) pay: over
/// vectors of queries; over single pairs; over pairs rather than the vectors they lie in. All have the same bits.
inline bool few_cells(const kernels::Sparsity& s, int keys, int queries) {
  return s.cells * 4 <= std::int64_t(keys) * ((queries + 15) / 16) * 3;
}
inline bool few_pairs(const kernels::Sparsity& s, int keys, int queries) {
  return s.pairs * 4 <= std::int64_t(keys) * queries;
}
inline bool few_in_cells(const kernels::Sparsity& s) { return s.pairs <= 6 * s.cells; }
/// out[r] = a[r] . b[r], each in one fixed order.
template <class T>
void dot_rows(Matrix<const T> a, Matrix<const T> b, T* out) {
  if constexpr (kHasKernel<T>) {
    kernels::dot_rows(a.data, a.stride, b.data, b.stride, a.rows, a.cols, out);
  } else {
    for (int r = 0; r < a.rows; ++r) {
      out[r] = T(0);
      for (int c = 0; c < a.cols; ++c) out[r] += a[r][c] * b[r][c];
    }
  }
}
/// Dropped weights become 0, kept ones are scaled up.
template <class T>
void drop_tile(Tile<T>& x, std::uint64_t seed, int first_batch, std::uint32_t keep_threshold) {
  const Area& a = x.area;
  if constexpr (kHasKernel<T>) {
    kernels::drop(x.data, x.stride, seed, first_batch + a.batch, a.head, a.query, a.queries, a.key, a.keys,
                  keep_threshold);
  } else {
    const T up = T(dropout_scale(keep_threshold));
    each(x, [&](T& v, int i, int j) {
      v = kept(seed, first_batch + a.batch, a.head, i, j, keep_threshold) ? v * up : T(0);
    });
  }
}

}  // namespace attune::engine
