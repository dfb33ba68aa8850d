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

  double factor(std::int64_t t) const {
    const std::int64_t W = steps_of(warmup, total);
    return t < W ? warmup_factor(t, W, warmup_start, warmup_from) : 1;
  }
  void check() const {
    check_total(name, total, false);
    check_length(name, "warmup", warmup, total);
    check_ratio(name, "warmup_from", warmup_from);
  }
  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("warmup", self.warmup), visit("total", self.total);
    visit("warmup_start", self.warmup_start), visit("warmup_from", self.warmup_from);
  }
};

}  // namespace attune::optim::schedule
