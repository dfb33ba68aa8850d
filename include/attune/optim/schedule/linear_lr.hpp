// f(t) = a + (b - a) min(t, N) / N: from one ratio to another on a line, then flat. N = 0 is b at once.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct LinearLr {
  static constexpr std::string_view name = "linear_lr";
  double start_ratio = 1.0 / 3;  // a
  double end_ratio = 1;          // b
  double steps = 5;              // N: share of the total, or steps
  std::int64_t total = 0;        // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const double N = double(steps_of(steps, total));
    return start_ratio + (end_ratio - start_ratio) * progress(std::min(double(t), N), N);
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("start_ratio", start_ratio), visit("end_ratio", end_ratio), visit("steps", length(steps));
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
