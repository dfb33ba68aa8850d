// Every score, a line each: from this list follow names in recipes, contract tests and tables.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/score/additive.hpp"
#include "attune/attention/score/scaled_dot.hpp"

#define ATTUNE_EACH_SCORE(X) \
  X(ScaledDot)               \
  X(Additive)

namespace attune {
using AllScores = ATTUNE_TUPLE_OF(ATTUNE_EACH_SCORE);
ATTUNE_EACH_SCORE(ATTUNE_EXTERN_SCORE)
}  // namespace attune
