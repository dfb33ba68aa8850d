// Which learning rate did these rows get in that update, and why.
//
//   rate = base * schedule(step) * group * (role, layer, width, head) * guard * rollback
//
// Base, schedule and groups come from the run's configuration, with the model's structure; the guard's factor and
// rollback from its log: from the last line at or before the update, since not every update is logged.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attune/optim/groups.hpp"

namespace attune::train {

/// Rows first .. end-1 (indices of the first axis) of one parameter that have all factors in common.
struct RateOfRows {
  std::string parameter;
  std::int64_t first = 0, end = 0;
  Role role = Role::other;
  std::int64_t head = -1;  // -1: of no head, or of several
  std::vector<optim::RateFactor> factors;
  double rate() const { return optim::product_of(factors); }
};

struct RateExplanation {
  std::int64_t step = 0;       // the update, from 1
  std::int64_t line_step = 0;  // of the line of the log that guard and rollback come from; 0: there is none
  double logged_rate = 0;      // base * schedule * rollback as that line has it; NaN without one
  std::vector<RateOfRows> rows;
  std::vector<std::string> notes;  // what the answer does not know
};

/// The rows that a name means, as people write it: a parameter ("layers.layer2.attention.weight_in"), a role of a
/// module ("layers.layer2.attention.query"), or one head of it (".head1"); "layers.2.", "L2.", "Wq" and "h1" stand for
/// "layer2.", "query" and "head1" (rate_name()); a leading part may be left out. Step 0: the last one logged.
/// Throws Error if the folder is no run, the name means nothing, or the step lies beyond the run's.
RateExplanation explain_rate(const std::filesystem::path& run, std::string_view parameter, std::int64_t step = 0);

/// "L2.Wq.h1" -> "layer2.attention.query.head1", "layers.2.attention.query.head1" -> "layer2.attention.query.head1";
/// other names stay as they are.
std::string rate_name(std::string_view name);

/// "3e-2 base x 0.71 schedule x 0.34 guard = 7.2e-3": factors of 1 other than base and schedule are left out unless
/// `all`.
std::string rate_text(const std::vector<optim::RateFactor>& factors, bool all = true);

}  // namespace attune::train
