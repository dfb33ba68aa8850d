// The adaptors of all built-in scores, compiled once for every program.
#include "attune/attention/score/all.hpp"

namespace attune {
#define ATTUNE_COMPILE(S) ATTUNE_ROW_MAP(, Score, S) ATTUNE_ADAPTOR(, OfScore, S)
ATTUNE_EACH_SCORE(ATTUNE_COMPILE)
}  // namespace attune
