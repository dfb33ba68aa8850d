// The softmax of one tile of logits [keys][queries], rows `stride` apart, for the instruction set of this machine: what
// the normalizers of the stages do where the plain path has its own fused form. Exact extents: nothing outside of them
// is read or written. Each exists for float and double.
#pragma once
#include <cstddef>

namespace attune::kernels {

/// One step of the online softmax: x[j][i] = e^(x[j][i] - m[i]) with m[i] = max(maximum[i], x[j][i] over all j), where
/// maximum[i] counts only if sum[i] > 0; then factor[i] = e^(maximum[i] - m[i]), or 0 if nothing was seen before,
/// sum[i] = factor[i] * sum[i] + what the tile adds, maximum[i] = m[i]. A column of -infinity becomes 0.
void softmax_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float* maximum, float* sum, float* factor);
void softmax_forward(double* x, std::ptrdiff_t stride, int keys, int queries, double* maximum, double* sum,
                     double* factor);

/// x = p = e^(x - lse), dp = p (dp - delta); lse and delta [queries].
void softmax_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, const float* lse,
                      const float* delta);
void softmax_backward(double* x, double* dp, std::ptrdiff_t stride, int keys, int queries, const double* lse,
                      const double* delta);

}  // namespace attune::kernels
