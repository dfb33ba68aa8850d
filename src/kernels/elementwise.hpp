// Arithmetic on arrays, rows and sums, threaded over fixed ranges. T is float or double; results may overwrite an
// input.
#pragma once
#include <cstdint>

namespace attune::kernels {

/// y[i] = a[i] op b[i].
template <class T>
void add(std::int64_t n, const T* a, const T* b, T* y);
template <class T>
void sub(std::int64_t n, const T* a, const T* b, T* y);
template <class T>
void mul(std::int64_t n, const T* a, const T* b, T* y);
template <class T>
void div(std::int64_t n, const T* a, const T* b, T* y);
/// y[i] += a[i] * b[i].
template <class T>
void add_mul(std::int64_t n, const T* a, const T* b, T* y);

/// y[i] = factor * x[i] + offset.
template <class T>
void scale(std::int64_t n, T factor, T offset, const T* x, T* y);
/// y[i] += factor * x[i].
template <class T>
void add_scaled(std::int64_t n, T factor, const T* x, T* y);
template <class T>
void fill(std::int64_t n, T value, T* y);
template <class T>
void copy(std::int64_t n, const T* x, T* y);

/// y[r][c] = x[r][c] + row[c]; x, y [rows][width] contiguous.
template <class T>
void add_row(std::int64_t rows, std::int64_t width, const T* x, const T* row, T* y);
/// y[r][c] = x[r][c] * row[c].
template <class T>
void mul_row(std::int64_t rows, std::int64_t width, const T* x, const T* row, T* y);
/// y[c] = (or += if accumulate) sum over r of x[r * stride + c]: a bias's gradient. y is no part of x.
template <class T>
void sum_rows(std::int64_t rows, std::int64_t width, const T* x, std::int64_t stride, T* y, bool accumulate);
/// y[c] = (or +=) sum over r of a[r][c] * b[r][c]; both contiguous. y is no part of a, b.
template <class T>
void sum_rows_mul(std::int64_t rows, std::int64_t width, const T* a, const T* b, T* y, bool accumulate);

/// sum x[i], and sum a[i] * b[i]: double sums over fixed ranges, added in order.
template <class T>
double sum(std::int64_t n, const T* x);
template <class T>
double dot(std::int64_t n, const T* a, const T* b);

/// y[b][h][t][:] = x[b][t][h][:]; x [batch][first][second][width], y [batch][second][first][width], no overlap.
/// [B, T, H, D] -> [B, H, T, D] with (B, T, H, D) and back with (B, H, T, D). accumulate: y += instead.
template <class T>
void swap_axes(std::int64_t batch, std::int64_t first, std::int64_t second, std::int64_t width, const T* x, T* y,
               bool accumulate = false);

}  // namespace attune::kernels
