// Cosine with hard restarts of equal length:  f(t) = r + (1 - r) (1 + cos(pi ((n p) mod 1))) / 2, and r from p = 1 on,
// p = (t - W) / max(1, T - W).  "SGDR", arXiv:1608.03983; periods that grow: sgdr.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct CosineRestarts {
  static constexpr std::string_view name = "cosine_restarts";
  double warmup = 0;        // W: share of the total, or steps
  std::int64_t total = 0;   // T, steps
  double min_ratio = 0;     // r
  std::int64_t cycles = 1;  // n, falls between W and T
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    const double p = double(t - W) / double(std::max<std::int64_t>(1, total - W));
    if (p >= 1) return min_ratio;
    return min_ratio + (1 - min_ratio) * half_wave(std::fmod(double(cycles) * p, 1.0));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("cycles", cycles), visit("warmup_start", warmup_start);
    visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
