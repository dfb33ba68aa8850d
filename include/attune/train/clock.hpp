// Minutes become a number of steps once, before the first step; from there on a run is a function of the step alone.
#pragma once
#include <cstdint>
#include <functional>

namespace attune::train {

/// Steps that are run, timed and thrown away. The first few are slower (caches, allocator, page faults).
inline constexpr int kDiscardedSteps = 20;

struct StepBudget {
  std::int64_t steps = 0;     // at least 1
  double seconds_a_step = 0;  // as measured
};

/// Calls `step` kDiscardedSteps times; it makes one training step, which the caller then undoes (weights, moments,
/// generator, data cursor), and returns the number of tokens in it. The last three quarters are timed: seconds a token
/// are taken as the median over steps, so a moment's disturbance does not count, and `tokens_a_step` (0: the mean of
/// the measured steps) turns them into seconds a step. `share` of the time is left to the steps; the rest is for
/// checkpoints and validation. Throws Error unless minutes > 0.
/// `now` gives seconds; the steady clock if left out.
StepBudget steps_for_minutes(double minutes, const std::function<std::int64_t()>& step, double tokens_a_step = 0,
                             double share = 1, const std::function<double()>& now = {});

/// Seconds of a clock that never jumps.
double steady_seconds();

}  // namespace attune::train
