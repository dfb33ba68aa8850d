// Stick-breaking attention over one tile [keys][queries] with rows `stride` apart, from the last key to the first:
// every key takes the share b = 1 / (1 + e^-x) of what the keys after it have left. float32; exact extents.
#pragma once
#include <cstddef>

namespace attune::kernels {

/// x = b * left, left [queries] *= 1 - b.
void stick_breaking_forward(float* x, std::ptrdiff_t stride, int keys, int queries, float* left);
/// x = p = b * left, passed [queries] += p dp, dp = p dp - b (delta - passed before), left *= 1 - b.
void stick_breaking_backward(float* x, float* dp, std::ptrdiff_t stride, int keys, int queries, float* left,
                             float* passed, const float* delta);

}  // namespace attune::kernels
