// f(t) = r + (1 - r) (1 - tanh(l (1 - p) + u p)) / 2,  p = (t - W) / (T - W); r from p = 1 on.
// "Stochastic gradient descent with hyperbolic-tangent decay on classification", arXiv:1806.01593
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Tanh {
  static constexpr std::string_view name = "tanh";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  double lower = -7;       // l, below u
  double upper = 3;        // u
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    if (t < W) return warmup_factor(t, W, warmup_start, warmup_from);
    if (t >= total) return min_ratio;
    const double p = double(t - W) / double(total - W);
    return min_ratio + 0.5 * (1 - min_ratio) * (1 - std::tanh(lower * (1 - p) + upper * p));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("lower", lower), visit("upper", upper);
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
