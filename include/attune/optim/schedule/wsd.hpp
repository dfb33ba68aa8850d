// Warm-up, stable, decay:  f rises over W steps, is 1 for S, falls to min_ratio over D; W + S + D = T.
// "MiniCPM", arXiv:2404.06395;  1 - sqrt: "Scaling laws and compute-optimal training beyond fixed training durations",
// arXiv:2405.18392.  Each rise and fall g is stretched to r + (1 - r) g, so the warm-up starts from r as well.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Wsd {
  static constexpr std::string_view name = "wsd";
  double warmup = 0;       // W: share of the total, or steps
  double decay = 0.2;      // D: share of the total, or steps
  std::int64_t total = 0;  // T, steps
  double min_ratio = 0;    // r
  Curve warmup_shape = Curve::linear;
  Curve decay_shape = Curve::one_minus_sqrt;
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  /// The same schedule, with the decay beginning at step t: for a run that has to end early.
  Wsd decay_from(std::int64_t t) const;

  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("decay", length(decay)), visit("total", length(total));
    visit("min_ratio", min_ratio), visit("warmup_shape", warmup_shape), visit("decay_shape", decay_shape);
    visit("warmup_start", warmup_start), visit("warmup_from", warmup_from), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
