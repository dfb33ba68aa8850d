// f(t) = k d^-1/2 min((t + 1)^-1/2, (t + 1) W^-3/2).  "Attention is all you need", arXiv:1706.03762
// The factor is a learning rate in itself: its peak, at t = W - 1, is k / sqrt(d W). Use a base learning rate of 1.
// The paper counts steps from 1, hence t + 1.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Noam {
  static constexpr std::string_view name = "noam";
  double warmup = 4000;    // W: share of the total, or steps
  std::int64_t total = 0;  // steps; 0: no end
  double model_dim = 512;  // d
  double scale = 1;        // k
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    t = step_within(t, total, past_end, name);
    const double W = double(steps_of(warmup, total)), n = double(t + 1);
    const double fall = 1 / std::sqrt(n);
    return scale / std::sqrt(model_dim) * (W > 0 ? std::min(fall, n / (W * std::sqrt(W))) : fall);
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("total", length(total));
    visit("model_dim", model_dim), visit("scale", scale), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
