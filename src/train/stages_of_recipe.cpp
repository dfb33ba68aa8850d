// Mechanisms by their names: every one of attention/mechanisms.hpp that a name and options are enough for.
#include "train/stages_of_recipe.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "train/attention_config.hpp"

namespace attune::train {

StagesOfRecipe stages_of_recipe(const ModelConfig& model, std::int64_t tokens) {
  const AttentionConfig& a = model.attention;
  if (const auto wrong = wrong_stage(model, tokens)) {
    fail("model_options", fmt::format("[model.attention] {}: {}", wrong->key, wrong->expectation), wrong->finding);
  }
  const AttendShape shape = stage_shape(model, tokens);
  StagesOfRecipe stages{
      .normalizer = normalizer_named(a.normalizer, options_of(a, a.normalizer), shape),
      .stability = {
          .qk_norm = nn::qk_norm_from_name(a.qk_norm), .output_gate = a.output_gate, .sigma_reparam = a.sigma_reparam}};
  if (a.position != "none") stages.position = position_named(a.position, options_of(a, a.position), shape);
  if (a.mup_base_head_dim > 0) {
    if (a.score != ScaledDot::name || options_of(a, a.score).contains("scale"))
      fail("model_options", "the score scaled_dot without a scale with mup_base_head_dim", a.score);
    // "Tensor programs V", arXiv:2203.03466: logits that grow with D, not sqrt(D), once query and key are correlated.
    const double width = double(model.model_dim) / double(model.num_heads);
    stages.score = ScaledDot{.scale = std::sqrt(double(a.mup_base_head_dim)) / width};
  } else {
    stages.score = score_named(a.score, options_of(a, a.score), shape);
  }
  for (const std::string& name : a.bias) stages.bias.push_back(bias_named(name, options_of(a, name), shape));
  for (const std::string& name : a.mask) stages.mask = stages.mask & mask_named(name, options_of(a, name), shape);
  return stages;
}

}  // namespace attune::train
