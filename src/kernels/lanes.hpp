// What the tile loops do to tiles besides products and stages: transpose, hide, scale, look for NaN. Tiles are
// [keys][queries] with queries contiguous ("in the lanes"), rows `stride` apart. Exact extents: nothing outside them is
// read or written. Each exists for float and double.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// dst[c][r] = scale * src[r][c] for r < rows, c < cols.
void transpose(const float* src, std::ptrdiff_t src_stride, int rows, int cols, float* dst, std::ptrdiff_t dst_stride,
               float scale);
void transpose(const double* src, std::ptrdiff_t src_stride, int rows, int cols, double* dst, std::ptrdiff_t dst_stride,
               double scale);

/// tile[j][i] += rows[i][j] for i < queries, j < keys: a number for every pair, as it lies in memory, into a tile.
void add_from_rows(const float* rows, std::ptrdiff_t row_stride, int queries, int keys, float* tile,
                   std::ptrdiff_t tile_stride);
void add_from_rows(const double* rows, std::ptrdiff_t row_stride, int queries, int keys, double* tile,
                   std::ptrdiff_t tile_stride);
/// rows[i][j] += tile[j][i], the way back.
void add_to_rows(const float* tile, std::ptrdiff_t tile_stride, int keys, int queries, float* rows,
                 std::ptrdiff_t row_stride);
void add_to_rows(const double* tile, std::ptrdiff_t tile_stride, int keys, int queries, double* rows,
                 std::ptrdiff_t row_stride);

/// x[j][i] = value where bit i of bits[j] is 0, by selection: a NaN that is hidden is gone. queries <= 64.
/// With value -inf this hides logits; with 0 it clears weights.
void hide(float* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, float value);
void hide(double* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits, double value);
/// The same with -inf.
void hide(float* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits);
void hide(double* x, std::ptrdiff_t stride, int queries, int keys, const std::uint64_t* bits);

/// x[r][i] *= factor[i] for r < rows, i < queries.
void scale_lanes(float* x, std::ptrdiff_t stride, int rows, int queries, const float* factor);
void scale_lanes(double* x, std::ptrdiff_t stride, int rows, int queries, const double* factor);

/// y[r][i] = scale * x[r][i] for r < rows, i < cols.
void scaled_rows(const float* x, std::ptrdiff_t x_stride, int rows, int cols, float scale, float* y,
                 std::ptrdiff_t y_stride);
void scaled_rows(const double* x, std::ptrdiff_t x_stride, int rows, int cols, double scale, double* y,
                 std::ptrdiff_t y_stride);

/// y[r][i] += scale * x[r][i] for r < rows, i < cols.
void add_scaled_rows(const float* x, std::ptrdiff_t x_stride, int rows, int cols, float scale, float* y,
                     std::ptrdiff_t y_stride);
void add_scaled_rows(const double* x, std::ptrdiff_t x_stride, int rows, int cols, double scale, double* y,
                     std::ptrdiff_t y_stride);

/// True if no element is NaN or infinite.
bool all_finite(const float* x, int rows, int cols, std::ptrdiff_t stride);
bool all_finite(const double* x, int rows, int cols, std::ptrdiff_t stride);

/// out[r] = sum over c of a[r][c] * b[r][c], in one fixed order: delta = row sums of dout * out.
void dot_rows(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride, int rows, int cols,
              float* out);
void dot_rows(const double* a, std::ptrdiff_t a_stride, const double* b, std::ptrdiff_t b_stride, int rows, int cols,
              double* out);

}  // namespace attune::kernels
