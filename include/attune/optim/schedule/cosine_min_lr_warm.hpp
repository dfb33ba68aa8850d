// Cosine whose warm-up reaches 1 with its last update and whose fall reaches min_ratio with the last update of all:
//     t < W: (t + 1) / W, or v + (1 - v) t / max(1, W - 1);   then r + (1 - r) (1 + cos(2 pi n p)) / 2,
//     p = (t - W + 1) / max(1, T - W).
// The phase is ahead of `cosine` by one step, by design; called cosine_warmup_with_min_lr elsewhere.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct CosineMinLrWarm {
  static constexpr std::string_view name = "cosine_min_lr_warm";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  double cycles = 0.5;     // n, waves between W and T
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;  // v
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    // The last update, T - 1, has the minimum; the formula rises again right after it.
    t = past_end == PastEnd::hold ? std::min(t, total - 1) : step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) {
      if (warmup_start != WarmupStart::value) return warmup_factor(t, W, warmup_start, 0);
      return warmup_from + (1 - warmup_from) * double(t) / double(std::max<std::int64_t>(1, W - 1));
    }
    const double p = double(t - W + 1) / double(std::max<std::int64_t>(1, total - W));
    const double wave = 0.5 * (1 + std::cos(2 * std::numbers::pi * cycles * p));
    return std::max(0.0, wave * (1 - min_ratio) + min_ratio);
  }
  void check() const {
    check_total(name, total, true);
    check_warmup(*this);
    check_ratio(name, "min_ratio", min_ratio);
    check_positive(name, "cycles", cycles);
  }
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("cycles", cycles), visit("warmup_start", warmup_start);
    visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
