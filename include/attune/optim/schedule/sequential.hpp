// One schedule after another: schedule i holds from milestone m_i on and is asked at t - m_i, from its own beginning,
// or at t itself with restart = false. m_0 is 0 and is not listed.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct Sequential {
  static constexpr std::string_view name = "sequential";
  std::vector<Schedule> schedules;
  std::vector<double> milestones;  // m_1, m_2 ...: shares of the total, or steps, not falling
  bool restart = true;
  std::int64_t total = 0;  // steps; 0: no end but that of the last schedule
  PastEnd past_end = PastEnd::hold;

  double factor(std::int64_t t) const;
  /// Of the schedule that holds at t.
  std::optional<double> momentum(std::int64_t t) const;
  void check() const;
  void fields(FieldVisitor& visit) {
    visit("schedules", schedules), visit("milestones", length(milestones)), visit("restart", restart);
    visit("total", length(total)), visit("past_end", past_end);
  }

 private:
  /// The schedule that holds at t, and the step at which it is asked.
  std::pair<const Schedule*, std::int64_t> at(std::int64_t t) const;
};

}  // namespace attune::optim::schedule
