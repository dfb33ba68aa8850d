// Clipping of gradients, before an optimizer reads them.
//
//   norm      g = g * min(1, G / (|g| + 1e-6)),  |g| the Euclidean norm over all parameters.  arXiv:1211.5063
//   value     g = clamp(g, -V, V)
//   adaptive  each row i of a matrix (a vector as a whole): M = f max(|w_i|, 1e-3); g_i = g_i M / max(|g_i|, 1e-6)
//             where |g_i| >= M.  AGC, arXiv:2102.06171
//   z-score   z = (|g| - mean) / (deviation + 1e-6); where z > z*: clipped to mean + z* deviation / (z / z*).  Mean and
//             variance are moving averages of what was let through.  ZClip, arXiv:2504.02507
#pragma once
#include <cstdint>

#include "attune/autograd/tensor.hpp"

namespace attune::optim {

/// The Euclidean norm of all elements, summed in double in a fixed order; not finite if an element is not.
double norm_of(const Tensor& gradients);
/// Clips in place and returns the norm before. A norm that is not finite changes nothing: the caller skips the step.
/// Throws Error unless limit > 0.
double clip_by_norm(Tensor& gradients, double limit);
/// Clamps in place to -limit .. limit; a NaN stays. Throws Error unless limit > 0.
void clip_by_value(Tensor& gradients, double limit);
/// Scales rows of `gradients` in place to at most factor * (norm of the same row of `weights`). A tensor of rank 2 or
/// more has a row per index of its first axis; other tensors are one row. Throws Error unless factor > 0 and the shapes
/// agree.
void clip_adaptively(const Tensor& weights, Tensor& gradients, double factor);

/// Clips outliers by what norms are usual.
class ZClip {
 public:
  static constexpr std::int64_t kWarmup = 25;  // norms from which mean and variance start
  static constexpr double kKeep = 0.97;        // weight of the past

  /// Takes the next step's norm, which must be finite, and returns the factor for its gradient, at most 1.
  /// threshold: z* > 0; limit: norms are also clipped to it, 0: to none.
  double factor(double norm, double threshold, double limit);

  /// {norms seen, at most kWarmup; mean; variance; the norms of the warm-up}: float64 [3 + kWarmup].
  Tensor state = Tensor::zeros({3 + kWarmup}, DType::float64);
};

}  // namespace attune::optim
