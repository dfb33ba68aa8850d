// The adaptors of all built-in positions, compiled once for every program.
#include "attune/attention/position/all.hpp"

namespace attune {
#define ATTUNE_COMPILE(S) ATTUNE_ROW_MAP(, Position, S) ATTUNE_ADAPTOR(, OfPosition, S)
ATTUNE_EACH_POSITION(ATTUNE_COMPILE)
}  // namespace attune
