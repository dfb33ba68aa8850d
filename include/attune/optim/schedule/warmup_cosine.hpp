// Warm-up, then a power of half a wave:  f(t) = r + (1 - r) ((1 + cos(pi p)) / 2)^k,  p = (t - W) / (T - W).
// T counts the warm-up too; W = T is an Error, since nothing would be left to decay.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct WarmupCosine {
  static constexpr std::string_view name = "warmup_cosine";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  double exponent = 1;     // k
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = std::min(step_within(t, total, past_end, name), total);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    return min_ratio + (1 - min_ratio) * std::pow(half_wave(double(t - W) / double(total - W)), exponent);
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("exponent", exponent), visit("warmup_start", warmup_start);
    visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
