// Every score, a line each: from this list follow names in recipes, contract tests and tables.
#pragma once
#include <tuple>

#include "attune/attention/score/additive.hpp"
#include "attune/attention/score/scaled_dot.hpp"

namespace attune {
using AllScores = std::tuple<ScaledDot, Additive>;
}  // namespace attune
