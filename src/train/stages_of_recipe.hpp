// The blanks of [model.attention] that both kinds of Transformer fill alike. Private.
#pragma once
#include "attune/attention/attention.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/train/config.hpp"

namespace attune::train {

struct StagesOfRecipe {
  AnyPosition position;
  AnyScore score;
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer;
  nn::Stability stability;
};

/// For sequences of at most `tokens`. Throws Error("model_options: ...") for a mechanism that a recipe cannot name, and
/// what the stage throws for options that it does not take.
StagesOfRecipe stages_of_recipe(const ModelConfig& model, std::int64_t tokens);

}  // namespace attune::train
