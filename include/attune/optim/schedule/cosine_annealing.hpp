// f(t) = r + (1 - r) (1 + cos(pi t / P)) / 2 up to step P; in reference mode it then rises again, with period 2 P.
// "SGDR", arXiv:1608.03983
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct CosineAnnealing {
  static constexpr std::string_view name = "cosine_annealing";
  double period = 0;       // P: share of the total, or steps; 0: the total
  double min_ratio = 0;    // r
  std::int64_t total = 0;  // steps; 0: the period
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const {
    const std::int64_t P = period > 0 ? steps_of(period, total) : total;
    t = step_within(t, P, past_end, name);
    return min_ratio + (1 - min_ratio) * half_wave(double(t) / double(std::max<std::int64_t>(1, P)));
  }
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("period", length(period)), visit("min_ratio", min_ratio);
    visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
