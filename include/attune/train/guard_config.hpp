// The attention guard that a recipe asks for.
#pragma once
#include "attune/train/attention_guard.hpp"
#include "attune/train/config.hpp"

namespace attune::train {

/// Options of [guard], for a run of config.train.steps updates. Throws Error while these are 0.
GuardOptions guard_options(const RunConfig& config);

}  // namespace attune::train
