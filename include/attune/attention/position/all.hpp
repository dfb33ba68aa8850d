// Every position stage, a line each.
#pragma once
#include <tuple>

#include "attune/attention/position/learned.hpp"
#include "attune/attention/position/rotary.hpp"
#include "attune/attention/position/sinusoidal.hpp"

namespace attune {
using AllPositions = std::tuple<Rotary, Sinusoidal, Learned>;
}  // namespace attune
