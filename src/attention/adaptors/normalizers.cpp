// The adaptors of all built-in normalizers, compiled once for every program.
#include "attune/attention/normalize/all.hpp"

namespace attune {
#define ATTUNE_COMPILE(S) ATTUNE_ADAPTOR(, OfNormalizer, S)
ATTUNE_EACH_NORMALIZER(ATTUNE_COMPILE)
}  // namespace attune
