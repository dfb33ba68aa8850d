// f(t) = gamma^(number of milestones m <= t). The order does not matter; a milestone that stands twice counts twice.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct MultiStep {
  static constexpr std::string_view name = "multistep";
  std::vector<double> milestones;  // shares of the total, or steps
  double gamma = 0.1;              // what every milestone multiplies by
  std::int64_t total = 0;          // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const auto passed = [&](double m) { return steps_of(m, total) <= t; };
    return std::pow(gamma, double(std::count_if(milestones.begin(), milestones.end(), passed)));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("milestones", length(milestones)), visit("gamma", gamma);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
