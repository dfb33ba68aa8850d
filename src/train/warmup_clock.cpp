// The clock of the warm-up, and where a schedule's warm-up ends.
#include "attune/train/warmup_clock.hpp"

namespace attune::train {

std::int64_t warmup_length(const optim::Schedule& schedule, std::int64_t steps) {
  double before = schedule.factor(0);
  for (std::int64_t t = 0; t + 1 < steps; ++t) {
    const double now = schedule.factor(t + 1);
    if (now <= before) return t;
    before = now;
  }
  return 0;  // it never stops rising: that is no warm-up
}

bool WarmupClock::tick(std::int64_t step, bool healthy) {
  if (healthy || !warming(step) || held_ >= 3 * length_) return true;
  ++held_;
  return false;
}

double WarmupClock::multiplier(const optim::Schedule& schedule, std::int64_t step) const {
  if (held_ == 0 || !warming(step)) return 1;
  const double planned = schedule.factor(step), warmed = schedule.factor(at(step));
  return planned > warmed && planned > 0 ? warmed / planned : 1;
}

}  // namespace attune::train
