// The spectral norm of a matrix, and matrices that are rescaled by it: sigmaReparam of "Stabilizing Transformer
// training by preventing attention entropy collapse", arXiv:2303.06296.
//
//   out = gain / sigma(W) W          sigma(W) = max |W v| / |v|
#pragma once
#include <cstdint>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune {

/// Lanczos steps of both, each a product with W and one with W^T. For C up to this many columns the norm is exact.
inline constexpr int kSpectralSteps = 40;

/// sigma of rows first .. end-1 of a matrix [R, C], by steps from a start that depends on C alone: the same matrix
/// gives the same bits, whatever was computed before. 0 for a matrix of zeros. Not differentiable.
double spectral_norm(const Tensor& matrix, std::int64_t first, std::int64_t end, int steps = kSpectralSteps);

/// weight [R, C] in parts of rows, part i from bounds[i] to bounds[i + 1] (the last bound is R), each scaled by
/// gain[i] / sigma(part); gain [parts]. Differentiable in both: dsigma = u v^T for the singular vectors u, v.
/// Throws Error for bounds that do not fit, or a part whose sigma is 0 or not finite.
Tensor spectral_scale(const Tensor& weight, const Tensor& gain, const std::vector<std::int64_t>& bounds,
                      int steps = kSpectralSteps);

}  // namespace attune
