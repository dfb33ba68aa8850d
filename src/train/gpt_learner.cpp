// Tokens and their targets through a decoder-only Transformer.
#include "attune/train/gpt_learner.hpp"

#include <optional>

#include "attune/attention/attention.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "train/stages_of_recipe.hpp"

namespace attune::train {
namespace {

struct TokenMicroBatch : MicroBatch {
  TokenBatch batch;
};

}  // namespace

double mean_loss(models::Gpt& model, const std::vector<TokenBatch>& batches) {
  const NoGrad no_grad;
  struct Mode {
    nn::Module& module;
    bool before = module.training();
    explicit Mode(nn::Module& m) : module(m) { module.eval(); }
    ~Mode() { module.train(before); }
  } const evaluating(model);
  double sum = 0;
  std::int64_t counted = 0;
  for (const TokenBatch& batch : batches) {
    sum += cross_entropy(model.logits(batch.tokens), batch.targets,
                         {.ignore_index = kNoTarget, .reduction = Reduction::sum})
               .item();
    counted += batch.counted;
  }
  if (counted == 0) fail("mean_loss", "targets that count", "none");
  return sum / double(counted);
}

GptLearner::GptLearner(std::shared_ptr<models::Gpt> model, std::vector<TokenBatch> valid, const LossTerms& terms,
                       TaskFacts facts)
    : model_(std::move(model)), valid_(std::move(valid)), terms_(terms), facts_(std::move(facts)) {
  check(terms);
}

std::unique_ptr<MicroBatch> GptLearner::draw() {
  auto micro_batch = std::make_unique<TokenMicroBatch>();
  micro_batch->batch = next();
  micro_batch->num_tokens = micro_batch->batch.tokens.size();
  micro_batch->target_tokens = micro_batch->batch.counted;
  return micro_batch;
}

Tensor GptLearner::loss(const MicroBatch& micro_batch, std::vector<SiteStatistics>* seen, OutputStatistics* output) {
  const TokenBatch& batch = own_batch<TokenMicroBatch>(micro_batch).batch;
  std::optional<nn::AttentionWatch> watch;
  if (seen) watch.emplace(*model_, *seen);
  Tensor logits = model_->logits(batch.tokens);
  if (output) add_output(logits, batch.targets, kNoTarget, *output);
  return cross_entropy(std::move(logits), batch.targets,
                       {.label_smoothing = terms_.label_smoothing,
                        .z_loss = terms_.z_loss,
                        .ignore_index = kNoTarget,
                        .reduction = Reduction::sum});
}

models::GptOptions gpt_options(const RunConfig& config, std::int64_t vocab_size, std::int64_t context) {
  const ModelConfig& model = config.model;
  if (model.kind != "gpt") fail("gpt_options", "model.kind is gpt", model.kind);
  if (model.norm != "pre") fail("gpt_options", "model.norm is pre", model.norm);
  models::GptOptions options;
  options.vocab_size = vocab_size;
  options.context = context;
  options.num_layers = model.num_layers;
  options.model_dim = model.model_dim;
  options.num_heads = model.num_heads;
  options.num_kv_heads = model.num_kv_heads;
  options.feed_forward_dim = model.feed_forward_dim;
  options.dropout = model.dropout;
  options.attention_dropout = model.attention_dropout;
  options.activation = activation_from_name(model.activation);
  options.norm_kind = nn::norm_kind_from_name(model.norm_kind);
  options.tied = model.tie_output;
  options.init_deviation = model.init_deviation;
  options.embedding_deviation = model.embedding_deviation;
  options.mup_base_width = model.mup_base_width;
  options.token_position = nn::token_position_from_name(token_position_of(model));
  StagesOfRecipe stages = stages_of_recipe(model, context);
  options.position = std::move(stages.position);
  options.score = std::move(stages.score);
  options.bias = std::move(stages.bias);
  options.mask = std::move(stages.mask);
  options.normalizer = std::move(stages.normalizer);
  options.stability = stages.stability;
  return options;
}

std::shared_ptr<models::Gpt> make_gpt(const RunConfig& config, std::int64_t vocab_size, std::int64_t context) {
  set_seed(config.seed);
  auto model = std::make_shared<models::Gpt>(gpt_options(config, vocab_size, context));
  model->set_generator(Generator(config.seed, 1));
  return model;
}

}  // namespace attune::train
