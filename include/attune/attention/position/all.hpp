// Every position stage, a line each.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/position/learned.hpp"
#include "attune/attention/position/learned_grid.hpp"
#include "attune/attention/position/rotary.hpp"
#include "attune/attention/position/rotary_2d.hpp"
#include "attune/attention/position/sinusoidal.hpp"
#include "attune/attention/position/sinusoidal_2d.hpp"
#include "attune/attention/position/xpos.hpp"

#define ATTUNE_EACH_POSITION(X) \
  X(Rotary)                     \
  X(Rotary2d)                   \
  X(XPos)                       \
  X(Sinusoidal)                 \
  X(Sinusoidal2d)               \
  X(Learned)                    \
  X(LearnedGrid)

namespace attune {
using AllPositions = ATTUNE_TUPLE_OF(ATTUNE_EACH_POSITION);
ATTUNE_EACH_POSITION(ATTUNE_EXTERN_POSITION)
}  // namespace attune
