// f(t) = product of the scales whose milestone m <= t.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct PiecewiseConstant {
  static constexpr std::string_view name = "piecewise_constant";
  std::vector<double> milestones;  // shares of the total, or steps
  std::vector<double> scales;      // one a milestone: what the factor before is multiplied by
  std::int64_t total = 0;          // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("milestones", length(milestones)), visit("scales", scales);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
