// f(t) = gamma^((t - b) / s) from step b on, 1 before; floor((t - b) / s) as a staircase. end_ratio, unless it is 0, is
// the value at which a fall (gamma < 1) or a rise stops.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Exponential {
  static constexpr std::string_view name = "exponential";
  double gamma = 0.999;  // what every interval multiplies by
  double interval = 1;   // s: share of the total, or steps
  double begin = 0;      // b: share of the total, or steps
  bool staircase = false;
  double end_ratio = 0;
  std::int64_t total = 0;  // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("gamma", gamma), visit("interval", length(interval)), visit("begin", length(begin));
    visit("staircase", staircase), visit("end_ratio", end_ratio);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
