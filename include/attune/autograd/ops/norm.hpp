// Layer norm and RMS norm over the last axis. Epsilon is inside the square root; statistics are in float32 or better.
// "Layer normalization", arXiv:1607.06450; "Root mean square layer normalization", arXiv:1910.07467
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; x [..., C], weight [C], bias [C]; both may be undefined.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon = 1e-5);
/// y = x / sqrt(mean(x^2) + epsilon) * weight; x [..., C], weight [C] or undefined.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon = 1e-6);

}  // namespace attune
