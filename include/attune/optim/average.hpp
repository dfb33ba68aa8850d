// An exponential moving average of the weights, to evaluate with: less noise than the last weights, no lower rate
// needed.
//
//   average = weights                                       at the first update
//   average = average + (1 - decay_t) (weights - average)   after each further one
//   decay_t = decay, or with a warm-up min(decay, 1 - (1 + t)^-warmup_power), t = 1, 2, ... counting updates
//
// Averaging: Polyak and Juditsky 1992; as PyTorch's AveragedModel and timm's ModelEmaV3 do it.
#pragma once
#include <cstdint>

namespace attune::optim {

struct AverageOptions {
  double decay = 0;         // in (0, 1); 0: no average
  double warmup_power = 0;  // 2/3 for a million steps, 3/4 for fewer; 0: no warm-up
};

/// decay_t; t is the number of updates before this one, 0 for the first, which copies.
double average_decay(const AverageOptions& options, std::int64_t t);

}  // namespace attune::optim
