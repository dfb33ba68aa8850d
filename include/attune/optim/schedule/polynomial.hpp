// f(t) = (1 - r) (1 - p^kappa)^k + r,  p = (t - W) / (T - W); r after the end.
// With `cycle` the end moves on to the next multiple of T - W instead, so that the rate jumps up and falls again.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Polynomial {
  static constexpr std::string_view name = "polynomial";
  double warmup = 0;       // W: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double end_ratio = 0;    // r, below 1
  double power = 1;        // k
  double k_decay = 1;      // kappa: "k-decay", arXiv:2004.05909
  bool cycle = false;
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("end_ratio", end_ratio), visit("power", power), visit("k_decay", k_decay), visit("cycle", cycle);
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
