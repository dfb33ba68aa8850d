// Every position stage, a line each.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/position/learned.hpp"
#include "attune/attention/position/rotary.hpp"
#include "attune/attention/position/sinusoidal.hpp"

#define ATTUNE_EACH_POSITION(X) \
  X(Rotary)                     \
  X(Sinusoidal)                 \
  X(Learned)

namespace attune {
using AllPositions = ATTUNE_TUPLE_OF(ATTUNE_EACH_POSITION);
ATTUNE_EACH_POSITION(ATTUNE_EXTERN_POSITION)
}  // namespace attune
