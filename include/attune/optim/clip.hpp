// Clipping of gradients: by norm (pulls the whole gradient back onto a ball) and by value (clamps each element).
//
//   norm   g = g * min(1, G / (|g| + 1e-6)),  |g| the Euclidean norm over all parameters.  arXiv:1211.5063
//   value  g = clamp(g, -V, V)
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune::optim {

/// The Euclidean norm of all elements, summed in double in a fixed order; not finite if an element is not.
double norm_of(const Tensor& gradients);
/// Clips in place and returns the norm before. A norm that is not finite changes nothing: the caller skips the step.
/// Throws Error unless limit > 0.
double clip_by_norm(Tensor& gradients, double limit);
/// Clamps in place to -limit .. limit; a NaN stays. Throws Error unless limit > 0.
void clip_by_value(Tensor& gradients, double limit);

}  // namespace attune::optim
