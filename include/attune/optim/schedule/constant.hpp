// f(t) = 1 after an optional warm-up.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Constant {
  static constexpr std::string_view name = "constant";
  double warmup = 0;       // share of the total, or steps
  std::int64_t total = 0;  // steps; 0: no end
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const std::int64_t W = steps_of(warmup, total);
    return t < W ? warmup_factor(t, W, warmup_start, warmup_from) : 1;
  }
  void check() const {
    check_total(name, total, false);
    check_warmup(*this);
  }
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
