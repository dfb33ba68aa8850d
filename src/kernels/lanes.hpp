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

/// dst[c][r] += scale * src[r][c]: gradients of queries back into their rows.
void add_transpose(const float* src, std::ptrdiff_t src_stride, int rows, int cols, float* dst,
                   std::ptrdiff_t dst_stride, float scale);
void add_transpose(const double* src, std::ptrdiff_t src_stride, int rows, int cols, double* dst,
                   std::ptrdiff_t dst_stride, double scale);

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

/// y[r][i] += scale * x[r][i] for r < rows, i < cols.
void add_scaled_rows(const float* x, std::ptrdiff_t x_stride, int rows, int cols, float scale, float* y,
                     std::ptrdiff_t y_stride);
void add_scaled_rows(const double* x, std::ptrdiff_t x_stride, int rows, int cols, double scale, double* y,
                     std::ptrdiff_t y_stride);

/// top[i] = max(top[i], x[r][i] over r < rows). What a NaN does to it is not defined: hide first.
void row_max_lanes(const float* x, std::ptrdiff_t stride, int rows, int queries, float* top);
void row_max_lanes(const double* x, std::ptrdiff_t stride, int rows, int queries, double* top);

/// True if no element is NaN or infinite.
bool all_finite(const float* x, int rows, int cols, std::ptrdiff_t stride);
bool all_finite(const double* x, int rows, int cols, std::ptrdiff_t stride);

/// out[r] = sum over c of a[r][c] * b[r][c], in one fixed order: delta = row sums of dout * out.
void dot_rows(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride, int rows, int cols,
              float* out);
void dot_rows(const double* a, std::ptrdiff_t a_stride, const double* b, std::ptrdiff_t b_stride, int rows, int cols,
              double* out);

}  // namespace attune::kernels
