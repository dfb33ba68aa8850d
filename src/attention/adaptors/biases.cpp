// The adaptors of all built-in biases, compiled once for every program.
#include "attune/attention/bias/all.hpp"

namespace attune {
#define ATTUNE_COMPILE(S) ATTUNE_ADAPTOR(, OfBias, S)
ATTUNE_EACH_BIAS(ATTUNE_COMPILE)
}  // namespace attune
