// From a recipe's words to the guard's options; how long the warm-up is follows from the schedule.
#include "attune/train/guard_config.hpp"

namespace attune::train {

GuardOptions guard_options(const RunConfig& config) {
  const GuardConfig& c = config.guard;
  return {.mode = guard_mode_from_name(c.mode),
          .rule = trust_rule_from_name(c.rule),
          .limit = c.limit,
          .tight = c.tight,
          .tight_until = c.tight_until,
          .tau = c.tau,
          .closed_loop = c.closed_loop,
          .steps = config.train.steps,
          .warmup = c.warmup_clock ? warmup_length(make_schedule(config), config.train.steps) : 0,
          .snapshot_every = c.snapshot_every,
          .most_rollbacks = c.most_rollbacks};
}

}  // namespace attune::train
