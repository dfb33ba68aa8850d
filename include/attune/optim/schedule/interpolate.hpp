// From 1 at step 0 to scale_0 at milestone m_0, on to scale_0 scale_1 at m_1 ..., on lines or half waves; flat after
// the last one.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Interpolate {
  static constexpr std::string_view name = "interpolate";
  std::vector<double> milestones;  // shares of the total, or steps, not falling
  std::vector<double> scales;      // one a milestone: what the factor before is multiplied by
  Curve shape = Curve::linear;     // or cosine
  std::int64_t total = 0;          // steps; 0: no end
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("milestones", length(milestones)), visit("scales", scales), visit("shape", shape);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
