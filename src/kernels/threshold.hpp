// Rows with a threshold: weights p = max(scale x - tau, 0)^(1 / scale) with sum p = 1, scale = alpha - 1 in (0, 1].
// Scale 1 is sparsemax, 1/2 entmax-1.5. Tiles are [keys][queries] with rows `stride` apart, queries <= 64; nothing
// outside of them is read or written. What the stages of normalize/ do in float32, for the instruction set of this
// machine.
#pragma once
#include <cstddef>
#include <cstdint>

namespace attune::kernels {

/// Numbers of scratch for threshold_forward.
std::size_t threshold_scratch(int keys);
/// All logits of the rows -> weights; tau [queries] is written, 0 where a row has no finite logit. A NaN becomes one.
/// Weights are as exact as the differences of logits, however large these are; what follows from tau is as exact as
/// tau.
void threshold_forward(float scale, float* x, std::ptrdiff_t stride, int keys, int queries, float* tau, float* scratch);

/// pairs[j] bit i: x[j][i] is above the threshold, or NaN.
void threshold_pairs(float scale, const float* x, std::ptrdiff_t stride, int keys, int queries, const float* tau,
                     std::uint64_t* pairs);

/// Sums over the support of a tile, [queries] each, added: s = p^(2 - alpha) to slope, s dp to slope_dp and, if bend is
/// not null, h = p / scale - p log p to bend and h dp to bend_dp. Only dp of pairs in the support matter.
struct ThresholdSums {
  float *slope, *slope_dp, *bend, *bend_dp;
};
void threshold_sweep(float scale, const float* x, const float* dp, std::ptrdiff_t stride, int keys, int queries,
                     const float* tau, const ThresholdSums& sums);

/// x = p, dp = s (dp - delta); 0 outside of the support whatever dp is.
void threshold_backward(float scale, float* x, float* dp, std::ptrdiff_t stride, int keys, int queries,
                        const float* tau, const float* delta);

}  // namespace attune::kernels
