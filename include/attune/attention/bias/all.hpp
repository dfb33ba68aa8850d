// Every bias, a line each. (A pointwise bias has a type per lambda and stands in no list.)
#pragma once
#include "attune/attention/bias/alibi.hpp"
#include "attune/attention/bias/dense.hpp"
#include "attune/attention/bias/fire.hpp"
#include "attune/attention/bias/gumbel.hpp"
#include "attune/attention/bias/kerple.hpp"
#include "attune/attention/bias/log_n.hpp"
#include "attune/attention/bias/relative_buckets.hpp"
#include "attune/attention/bias/soft_cap.hpp"
#include "attune/attention/bias/temperature.hpp"
#include "attune/attention/each.hpp"

#define ATTUNE_EACH_BIAS(X) \
  X(Alibi)                  \
  X(SoftCap)                \
  X(Dense)                  \
  X(RelativeBuckets)        \
  X(Kerple)                 \
  X(Fire)                   \
  X(Temperature)            \
  X(LogLength)              \
  X(GumbelNoise)

namespace attune {
using AllBiases = ATTUNE_TUPLE_OF(ATTUNE_EACH_BIAS);
ATTUNE_EACH_BIAS(ATTUNE_EXTERN_BIAS)
}  // namespace attune
