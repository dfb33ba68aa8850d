// One rise from 1 / div to 1 and one fall to 1 / (div final_div), while the momentum falls and rises again.
//     phases end at e_1 = rise T - 1 and e_2 = T - 1; three of them: rise T - 1, 2 rise T - 2, T - 1, where the second
//     comes back to 1 / div.
// "Super-convergence", arXiv:1708.07120, with the ends that PyTorch gives the phases; the ends of optax are those of
// onecycle_optax. Past the end: T - 1 is the last update; reference mode goes on one step further, then it is an Error.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct OneCycle {
  static constexpr std::string_view name = "onecycle";
  std::int64_t total = 0;  // T, steps
  double rise = 0.3;       // share of the total in which the rate rises; at most 1/2 with three phases
  double div = 25;
  double final_div = 1e4;
  Curve shape = Curve::cosine;  // or linear
  bool three_phase = false;
  bool cycle_momentum = true;
  double min_momentum = 0.85;  // momentum of SGD, beta_1 of Adam
  double max_momentum = 0.95;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  std::optional<double> momentum(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("total", length(total)), visit("rise", rise), visit("div", div), visit("final_div", final_div);
    visit("shape", shape), visit("three_phase", three_phase), visit("cycle_momentum", cycle_momentum);
    visit("min_momentum", min_momentum), visit("max_momentum", max_momentum), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
