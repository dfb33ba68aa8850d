// Mechanisms by their names.
#include "train/stages_of_recipe.hpp"

#include <cmath>

#include "attune/base/error.hpp"

namespace attune::train {
namespace {

AnyScore score_named(const ModelConfig& model) {
  const std::int64_t base = model.attention.mup_base_head_dim;
  if (base > 0 && model.attention.score != ScaledDot::name)
    fail("model_options", "the score scaled_dot with mup_base_head_dim", model.attention.score);
  // "Tensor programs V", arXiv:2203.03466: logits that grow with D, not sqrt(D), once query and key are correlated.
  if (base > 0) return ScaledDot{.scale = std::sqrt(double(base)) * double(model.num_heads) / double(model.model_dim)};
  if (model.attention.score == ScaledDot::name) return ScaledDot{};
  if (model.attention.score == Additive::name) return Additive{.hidden_dim = int(model.model_dim / model.num_heads)};
  fail("model_options", "a score that a recipe can name: scaled_dot or additive", model.attention.score);
}

AnyBias bias_named(const std::string& name, const AttentionConfig& attention) {
  if (name == Alibi::name) return Alibi{};
  if (name == SoftCap::name) return SoftCap{.cap = attention.soft_cap};
  fail("model_options", "a bias that a recipe can name: alibi or soft_cap", name);
}

AnyMask mask_named(const AttentionConfig& attention) {
  if (attention.mask == "none") return {};
  if (attention.mask == Window::name) return Window{.left = int(attention.window), .right = int(attention.window)};
  fail("model_options", "a mask that a recipe can name: none or window", attention.mask);
}

AnyNormalizer normalizer_named(const std::string& name) {
  if (name == Softmax::name) return Softmax{};
  if (name == SoftmaxWithSink::name) return SoftmaxWithSink{};
  if (name == Sigmoid::name) return Sigmoid{};
  if (name == Sparsemax::name) return Sparsemax{};
  fail("model_options", "a normalizer that a recipe can name: softmax, softmax_with_sink, sigmoid or sparsemax", name);
}

}  // namespace

StagesOfRecipe stages_of_recipe(const ModelConfig& model) {
  StagesOfRecipe stages{.score = score_named(model),
                        .mask = mask_named(model.attention),
                        .normalizer = normalizer_named(model.attention.normalizer),
                        .stability = {.qk_norm = nn::qk_norm_from_name(model.attention.qk_norm),
                                      .output_gate = model.attention.output_gate,
                                      .sigma_reparam = model.attention.sigma_reparam}};
  for (const std::string& name : model.attention.bias) stages.bias.push_back(bias_named(name, model.attention));
  return stages;
}

}  // namespace attune::train
