// What the library's own biases do to a tile of logits [keys][queries], rows `stride` apart, for the instruction set of
// this machine. Exact extents: nothing outside of them is read or written.
#pragma once
#include <cstddef>

namespace attune::kernels {

/// x[j][i] -= slope * |distance + i - j|: ALiBi. distance: position of the first query minus the first key.
void subtract_distance(float* x, std::ptrdiff_t stride, int keys, int queries, float slope, int distance);
void subtract_distance(double* x, std::ptrdiff_t stride, int keys, int queries, double slope, int distance);

/// x = cap * tanh(x / cap), cap > 0; slope, if given, = 1 - tanh(x / cap)^2, rows as far apart as x's, without the
/// difference's cancellation. An element's bits depend on itself alone. Relative error of tanh at most 4e-7.
void soft_cap(float* x, std::ptrdiff_t stride, int keys, int queries, float cap, float* slope);

/// x = p = 1 / (1 + e^-(x + bias)).
void sigmoid_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float bias);
/// The same, and dp = p (1 - p) dp.
void sigmoid_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float bias);

/// x *= y.
void multiply_tile(float* x, const float* y, std::ptrdiff_t stride, int keys, int queries);
void multiply_tile(double* x, const double* y, std::ptrdiff_t stride, int keys, int queries);

}  // namespace attune::kernels
