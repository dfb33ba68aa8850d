// Every normalizer, a line each.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/normalize/entmax.hpp"
#include "attune/attention/normalize/entmax15.hpp"
#include "attune/attention/normalize/hard.hpp"
#include "attune/attention/normalize/relu.hpp"
#include "attune/attention/normalize/sigmoid.hpp"
#include "attune/attention/normalize/softmax.hpp"
#include "attune/attention/normalize/softmax_off_by_one.hpp"
#include "attune/attention/normalize/softmax_with_sink.hpp"
#include "attune/attention/normalize/sparsemax.hpp"
#include "attune/attention/normalize/stick_breaking.hpp"
#include "attune/attention/normalize/unnormalized.hpp"

#define ATTUNE_EACH_NORMALIZER(X) \
  X(Softmax)                      \
  X(SoftmaxWithSink)              \
  X(SoftmaxOffByOne)              \
  X(Sigmoid)                      \
  X(Sparsemax)                    \
  X(Entmax15)                     \
  X(Entmax)                       \
  X(Relu)                         \
  X(ReluSquared)                  \
  X(Unnormalized)                 \
  X(Hard)                         \
  X(StickBreaking)

namespace attune {
using AllNormalizers = ATTUNE_TUPLE_OF(ATTUNE_EACH_NORMALIZER);
ATTUNE_EACH_NORMALIZER(ATTUNE_EXTERN_NORMALIZER)
}  // namespace attune
