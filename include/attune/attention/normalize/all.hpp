// Every normalizer, a line each.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/normalize/sigmoid.hpp"
#include "attune/attention/normalize/softmax.hpp"
#include "attune/attention/normalize/softmax_with_sink.hpp"
#include "attune/attention/normalize/sparsemax.hpp"

#define ATTUNE_EACH_NORMALIZER(X) \
  X(Softmax)                      \
  X(SoftmaxWithSink)              \
  X(Sigmoid)                      \
  X(Sparsemax)

namespace attune {
using AllNormalizers = ATTUNE_TUPLE_OF(ATTUNE_EACH_NORMALIZER);
ATTUNE_EACH_NORMALIZER(ATTUNE_EXTERN_NORMALIZER)
}  // namespace attune
