// A schedule for each group of parameters, by the group's name; the one called "otherwise" is for all groups that have
// none, and what the whole answers when it is asked for no group. Schedule::for_group() takes one out.
#pragma once
#include "attune/optim/schedule/common.hpp"

namespace attune::optim::schedule {

struct PerGroup {
  static constexpr std::string_view name = "per_group";
  static constexpr std::string_view kOtherwise = "otherwise";
  Groups groups;
  std::int64_t total = 0;  // steps: of the schedules that are written down without one

  double factor(std::int64_t t) const;
  std::optional<double> momentum(std::int64_t t) const;
  void check() const;
  /// That of the group, or "otherwise".
  const Schedule& of(std::string_view group) const;
  void fields(FieldVisitor& visit) { visit("groups", groups), visit("total", length(total)); }
};

}  // namespace attune::optim::schedule
