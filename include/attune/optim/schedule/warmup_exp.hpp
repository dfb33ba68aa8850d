// Warm-up, then the formula of exponential at t - W.
#pragma once
#include "attune/optim/schedule/exponential.hpp"

namespace attune::optim::schedule {

struct WarmupExp {
  static constexpr std::string_view name = "warmup_exp";
  double warmup = 0;     // W: share of the total, or steps
  double gamma = 0.999;  // what every interval multiplies by
  double interval = 1;   // share of the total, or steps
  double begin = 0;      // share of the total, or steps after the warm-up
  bool staircase = false;
  double end_ratio = 0;    // where it stops; 0: nowhere
  std::int64_t total = 0;  // steps; 0: no end
  WarmupStart warmup_start = WarmupStart::nonzero;
  double warmup_from = 0;
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("warmup", length(warmup)), visit("gamma", gamma), visit("interval", length(interval));
    visit("begin", length(begin)), visit("staircase", staircase), visit("end_ratio", end_ratio);
    visit("total", length(total)), visit("warmup_start", warmup_start), visit("warmup_from", warmup_from);
    visit("past_end", past_end);
  }

 private:
  Exponential decay() const;
};

}  // namespace attune::optim::schedule
