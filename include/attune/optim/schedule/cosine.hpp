// Cosine to min_ratio:  f(t) = r + (1 - r) max(0, (1 + cos(2 pi n p)) / 2),  p = (t - W) / max(1, T - W).
// "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983, without restarts; n = 1/2 is half a wave.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Cosine {
  static constexpr std::string_view name = "cosine";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  double cycles = 0.5;     // n, waves between W and T
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    const double p = double(t - W) / double(std::max<std::int64_t>(1, total - W));
    const double wave = std::max(0.0, 0.5 * (1 + std::cos(2 * std::numbers::pi * cycles * p)));
    return wave * (1 - min_ratio) + min_ratio;
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("cycles", cycles), visit("warmup_start", warmup_start);
    visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
