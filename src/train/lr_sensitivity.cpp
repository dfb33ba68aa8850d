// Sensitivity of the final loss to the learning rate.
#include "attune/train/lr_sensitivity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "attune/base/error.hpp"

namespace attune::train {

LrSensitivity lr_sensitivity(std::span<const RateOutcome> outcomes, double initial_loss) {
  constexpr double kUsable = 0.05;  // of what can be gained
  if (outcomes.size() < 2 || !std::isfinite(initial_loss))
    fail("lr_sensitivity", "two outcomes or more and a finite initial loss",
         fmt::format("{} and {}", outcomes.size(), initial_loss));
  std::vector<double> loss, rate;  // losses as they count; rates as logarithms to base 10
  for (const RateOutcome& o : outcomes) {
    if (!(o.learning_rate > 0) || (!rate.empty() && !(std::log10(o.learning_rate) > rate.back())))
      fail("lr_sensitivity", "positive, increasing learning rates", fmt::format("{}", o.learning_rate));
    const bool counts = !o.diverged && std::isfinite(o.loss);
    loss.push_back(counts ? std::min(o.loss, initial_loss) : initial_loss);
    rate.push_back(std::log10(o.learning_rate));
  }
  if (std::all_of(outcomes.begin(), outcomes.end(), [](const RateOutcome& o) { return o.diverged; }))
    fail("lr_sensitivity", "a run that has not diverged", "none");

  LrSensitivity result;
  const std::size_t n = loss.size(), best = std::size_t(std::min_element(loss.begin(), loss.end()) - loss.begin());
  result.best_learning_rate = outcomes[best].learning_rate;
  result.best_loss = loss[best];
  for (std::size_t i = 0; i < n; ++i) {
    result.lrs += (loss[i] - loss[best]) / double(n);
    if (i >= best) result.lrs_right += (loss[i] - loss[best]) / double(n - best);
    if (!result.first_diverged && outcomes[i].diverged) result.first_diverged = outcomes[i].learning_rate;
  }

  // From the best outwards, as far as the losses between stay usable; the last piece is cut where the line crosses.
  const double limit = loss[best] + kUsable * (initial_loss - loss[best]);
  const auto reach = [&](int direction) {
    std::size_t i = best;
    while (true) {
      if ((direction < 0 && i == 0) || (direction > 0 && i + 1 == n)) return rate[i];
      const std::size_t next = i + std::size_t(direction);
      if (loss[next] > limit) return rate[i] + (rate[next] - rate[i]) * (limit - loss[i]) / (loss[next] - loss[i]);
      i = next;
    }
  };
  const double from = reach(-1), to = reach(+1);
  result.width = to - from;
  result.usable_from = std::pow(10.0, from);
  result.usable_to = std::pow(10.0, to);
  return result;
}

}  // namespace attune::train
