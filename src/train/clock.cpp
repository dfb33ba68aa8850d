// Minutes to steps, by the median time of a token.
#include "attune/train/clock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "attune/base/error.hpp"

namespace attune::train {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

StepBudget steps_for_minutes(double minutes, const std::function<std::int64_t()>& step, double tokens_a_step,
                             double share, const std::function<double()>& now) {
  if (!(minutes > 0) || !std::isfinite(minutes)) {
    fail("steps_for_minutes", "a finite number of minutes above 0", fmt::format("got {}", minutes));
  }
  if (!(share > 0 && share <= 1)) fail("steps_for_minutes", "a share in (0, 1]", fmt::format("got {}", share));
  const std::function<double()> clock = now ? now : steady_seconds;
  std::vector<double> seconds_a_token;
  std::int64_t tokens = 0;
  for (int i = 0; i < kDiscardedSteps; ++i) {
    const double begin = clock();
    const std::int64_t count = step();
    const double seconds = clock() - begin;
    if (count <= 0) fail("steps_for_minutes", "steps with 1 token or more", fmt::format("got {}", count));
    if (i < kDiscardedSteps / 4) continue;
    seconds_a_token.push_back(seconds / double(count));
    tokens += count;
  }
  const auto middle = seconds_a_token.begin() + std::ptrdiff_t(seconds_a_token.size() / 2);
  std::nth_element(seconds_a_token.begin(), middle, seconds_a_token.end());
  if (!(tokens_a_step > 0)) tokens_a_step = double(tokens) / double(seconds_a_token.size());
  // A clock too coarse to see a step would promise infinitely many.
  const double seconds_a_step = std::max(*middle * tokens_a_step, 1e-9);
  const double steps = std::floor(minutes * 60 * share / seconds_a_step);
  return {std::int64_t(std::clamp(steps, 1.0, 1e12)), seconds_a_step};
}

}  // namespace attune::train
