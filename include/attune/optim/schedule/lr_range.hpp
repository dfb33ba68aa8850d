// The rise of a learning-rate range test:  f(t) = a^(1 - p) (exponential) or a + (1 - a) p (linear),  p = t / T, or
// t / (T - 1) with `reach_end`, so that the last update has the whole rate.  The base rate is the largest of the range.
// "Cyclical learning rates for training neural networks", arXiv:1506.01186
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct LrRange {
  static constexpr std::string_view name = "lr_range";
  std::int64_t total = 0;            // T, steps
  double start_ratio = 1e-6;         // a: smallest rate over the largest
  Curve shape = Curve::exponential;  // or linear
  bool reach_end = false;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const double p = progress(double(t), double(reach_end ? total - 1 : total));
    return shape == Curve::linear ? between(start_ratio, 1, p, shape) : std::pow(start_ratio, 1 - p);
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("total", length(total)), visit("start_ratio", start_ratio), visit("shape", shape);
    visit("reach_end", reach_end), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
