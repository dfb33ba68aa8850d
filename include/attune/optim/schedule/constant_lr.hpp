// f(t) = c for the first N steps, then 1.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct ConstantLr {
  static constexpr std::string_view name = "constant_lr";
  double ratio = 1.0 / 3;  // c
  double steps = 5;        // N: share of the total, or steps
  std::int64_t total = 0;  // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    return step_within(t, total, past_end, name) < steps_of(steps, total) ? ratio : 1;
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("ratio", ratio), visit("steps", length(steps)), visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
