// f(t) = gamma^floor(t / s).
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Step {
  static constexpr std::string_view name = "step";
  double interval = 1;     // s: share of the total, or steps
  double gamma = 0.1;      // what every interval multiplies by
  std::int64_t total = 0;  // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    return std::pow(gamma, double(t / std::max<std::int64_t>(1, steps_of(interval, total))));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("interval", length(interval)), visit("gamma", gamma);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
