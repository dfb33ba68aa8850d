// f(t) = 1 / (1 + rate t / s); floor(t / s) as a staircase.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct InverseTime {
  static constexpr std::string_view name = "inverse_time";
  double rate = 1;
  double interval = 1;  // s: share of the total, or steps
  bool staircase = false;
  std::int64_t total = 0;  // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const double p = double(t) / double(std::max<std::int64_t>(1, steps_of(interval, total)));
    return 1 / (1 + rate * (staircase ? std::floor(p) : p));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("rate", rate), visit("interval", length(interval)), visit("staircase", staircase);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
