// f(t) = product of the factors of all schedules at t.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Chained {
  static constexpr std::string_view name = "chained";
  std::vector<Schedule> schedules;
  std::int64_t total = 0;  // steps; 0: no end but those of the schedules
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  /// Of the first schedule that has one.
  std::optional<double> momentum(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("schedules", schedules), visit("total", length(total)), visit("past_end", past_end);
  }
};

}  // namespace attune::optim::schedule
