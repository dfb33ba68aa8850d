// One rise from 1 / div to 1 and one fall, with phases that end at floor(rise T), [floor(back T),] T:
//     cosine: 1 / div, 1, 1 / (div final_div);   linear: 1 / div, 1, 1 / div, 1 / (div final_div).
// "Super-convergence", arXiv:1708.07120, as optax has it. onecycle differs: its phases end a step earlier.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct OneCycleOptax {
  static constexpr std::string_view name = "onecycle_optax";
  std::int64_t total = 0;  // T, steps
  double rise = 0.3;       // share of the total at which the peak is
  double back = 0.85;      // share of the total at which 1 / div is reached again; linear only
  double div = 25;
  double final_div = 1e4;
  Curve shape = Curve::cosine;  // or linear
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("total", length(total)), visit("rise", rise), visit("back", back), visit("div", div);
    visit("final_div", final_div), visit("shape", shape), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
