// The blanks of [model.attention] that both kinds of Transformer fill alike. Private.
#pragma once
#include "attune/attention/attention.hpp"
#include "attune/nn/multi_head_attention.hpp"
#include "attune/train/config.hpp"

namespace attune::train {

struct StagesOfRecipe {
  AnyScore score;
  Biases bias;
  AnyMask mask;
  AnyNormalizer normalizer;
  nn::Stability stability;
};

/// Throws Error("model_options: ...") for a mechanism that exists but that a recipe cannot name.
StagesOfRecipe stages_of_recipe(const ModelConfig& model);

}  // namespace attune::train
