// Linear to min_ratio:  f(t) = r + (1 - r) max(0, (T - t) / max(1, T - W)).  "Straight to zero", arXiv:2502.15938
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Linear {
  static constexpr std::string_view name = "linear";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    const double fall = double(total - t) / double(std::max<std::int64_t>(1, total - W));
    return min_ratio + (1 - min_ratio) * std::max(0.0, fall);
  }
  void check() const {
    check_total(name, total, true);
    check_warmup(*this);
    check_ratio(name, "min_ratio", min_ratio);
  }
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("warmup_start", warmup_start), visit("warmup_from", warmup_from);
    visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
