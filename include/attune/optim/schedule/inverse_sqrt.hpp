// f(t) = max(r, 1 / sqrt((t + tau - W) / tau)) after the warm-up: continuous at t = W for any time scale tau.
// "Scaling vision transformers", arXiv:2106.04560
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct InverseSqrt {
  static constexpr std::string_view name = "inverse_sqrt";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // steps; 0: no end
  double timescale = 0;    // tau, steps; 0: W, or 10,000 without a warm-up
  double min_ratio = 0;    // r
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    const double tau = timescale > 0 ? timescale : W > 0 ? double(W) : 10'000.0;
    return std::max(min_ratio, 1 / std::sqrt((double(t - W) + tau) / tau));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("timescale", timescale), visit("min_ratio", min_ratio), visit("warmup_start", warmup_start);
    visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
