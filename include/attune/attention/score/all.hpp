// Every score, a line each: from this list follow names in recipes, contract tests and tables.
#pragma once
#include "attune/attention/each.hpp"
#include "attune/attention/score/additive.hpp"
#include "attune/attention/score/bilinear.hpp"
#include "attune/attention/score/concat.hpp"
#include "attune/attention/score/cosine.hpp"
#include "attune/attention/score/deberta.hpp"
#include "attune/attention/score/distance.hpp"
#include "attune/attention/score/dot.hpp"
#include "attune/attention/score/local_p.hpp"
#include "attune/attention/score/location.hpp"
#include "attune/attention/score/mlp.hpp"
#include "attune/attention/score/qk_norm.hpp"
#include "attune/attention/score/scaled_dot.hpp"
#include "attune/attention/score/shaw.hpp"
#include "attune/attention/score/transformer_xl.hpp"

#define ATTUNE_EACH_SCORE(X) \
  X(ScaledDot)               \
  X(Dot)                     \
  X(Bilinear)                \
  X(Additive)                \
  X(Concat)                  \
  X(MlpScore)                \
  X(CosineScore)             \
  X(NormalizedDot)           \
  X(SquaredDistance)         \
  X(GaussianKernel)          \
  X(LocationBased)           \
  X(LocalP)                  \
  X(Shaw)                    \
  X(TransformerXl)           \
  X(Deberta)

namespace attune {
using AllScores = ATTUNE_TUPLE_OF(ATTUNE_EACH_SCORE);
ATTUNE_EACH_SCORE(ATTUNE_EXTERN_SCORE)
}  // namespace attune
