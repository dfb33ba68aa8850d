// The warm-up clock: while the rate still rises, an update that does not look healthy does not count towards it.
//
//   clock = updates - held;   rate = min(schedule(updates), schedule(clock))   until clock has reached the end of
//   warm-up
//
// Held at most three times the warm-up's length in all. The schedule's total stays: a longer warm-up shortens what
// follows. The minimum is continuous, also where the schedule falls already while the clock is still warming up.
#pragma once
#include <cstdint>

#include "attune/optim/schedule.hpp"
#include "attune/train/guard_event.hpp"

namespace attune::train {

/// Updates before which a schedule still rises: the first t with factor(t + 1) <= factor(t), at most `steps`.
std::int64_t warmup_length(const optim::Schedule& schedule, std::int64_t steps);

class WarmupClock {
 public:
  /// length: of the warm-up, updates; 0: there is none to hold.
  explicit WarmupClock(std::int64_t length) : length_(length) {}
  /// Where the warm-up stands, updates, if `step` have been made.
  std::int64_t at(std::int64_t step) const { return step - held_; }
  bool warming(std::int64_t step) const { return at(step) < length_; }
  /// Counts an update that was made as number `step`; false: it was held.
  bool tick(std::int64_t step, bool healthy);
  /// What the schedule's factor at `step` is multiplied with; 1 unless held in warm-up.
  double multiplier(const optim::Schedule& schedule, std::int64_t step) const;
  void save(GuardNumbers& to) const { to["clock"] = {double(held_)}; }
  void load(const GuardNumbers& from) { held_ = std::int64_t(guard_numbers(from, "clock", 1)[0]); }

 private:
  std::int64_t length_ = 0, held_ = 0;
};

}  // namespace attune::train
