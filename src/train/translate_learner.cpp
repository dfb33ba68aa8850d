// Pairs of sentences as micro-batches, and what the encoder-decoder makes of them.
#include "attune/train/translate_learner.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "attune/autograd/ops/loss.hpp"
#include "attune/base/error.hpp"
#include "attune/train/evaluate.hpp"
#include "attune/train/translate_task.hpp"

namespace attune::train {
namespace {

constexpr std::size_t kValidPairs = 256;  // of the validation loss: a tenth of a second

struct PairBatch : MicroBatch {
  Batch pairs;
};

}  // namespace

TranslateLearner::TranslateLearner(std::shared_ptr<models::Seq2SeqTransformer> model, BatchStream stream,
                                   std::vector<TokenPair> valid, const TranslateLearnerOptions& options)
    : model_(std::move(model)), stream_(std::move(stream)), valid_(std::move(valid)), options_(options) {
  check(options.loss);
}

std::unique_ptr<MicroBatch> TranslateLearner::draw() {
  auto batch = std::make_unique<PairBatch>();
  batch->pairs = stream_.next();
  batch->num_tokens = batch->pairs.num_tokens;
  for (const std::int32_t length : batch->pairs.target_lengths) batch->target_tokens += length;
  return batch;
}

Tensor TranslateLearner::loss(const MicroBatch& micro_batch, std::vector<SiteStatistics>* seen,
                              OutputStatistics* output) {
  const Batch& batch = own_batch<PairBatch>(micro_batch).pairs;
  const Shape target_shape{batch.num_pairs, batch.target_length};
  std::optional<nn::AttentionWatch> watch;
  if (seen) watch.emplace(*model_, *seen);
  Tensor logits =
      (*model_)(Ids(batch.source, {batch.num_pairs, batch.source_length}), Ids(batch.target_in, target_shape));
  const Ids targets(batch.target_out, target_shape);
  if (output) add_output(logits, targets, kPaddingId, *output);
  return cross_entropy(std::move(logits), targets,
                       {.label_smoothing = options_.loss.label_smoothing,
                        .z_loss = options_.loss.z_loss,
                        .ignore_index = kPaddingId,
                        .reduction = Reduction::sum});
}

double TranslateLearner::tokens_a_batch() const {
  double tokens = 0;
  for (const TokenPair& pair : stream_.pairs()) tokens += double(pair.source.size() + pair.target.size());
  return tokens / double(stream_.batches_in_epoch());
}

double TranslateLearner::validation_loss() { return mean_loss(*model_, valid_, options_.valid_batch_tokens); }

std::unique_ptr<Learner> make_translate_learner(const RunConfig& config, const TaskContext& context) {
  const TaskText data = task_text(config, context.data_folder, context.told);
  expect_same_data(context, data.sha256, data.folder.string());
  if (!std::filesystem::exists(context.files.tokenizer)) {
    if (context.told) context.told("training the tokenizer");
    task_tokenizer(config, data.text).save(context.files.tokenizer);
  }
  const Tokenizer tokenizer = Tokenizer::load(context.files.tokenizer);
  set_seed(config.seed);
  auto model = std::make_shared<models::Seq2SeqTransformer>(model_options(config, tokenizer.vocab_size()));
  model->set_generator(Generator(config.seed, 1));
  BatchStream stream(
      encode_pairs(tokenizer, data.text.train),
      {.batch_tokens = config.train.batch_tokens, .max_tokens = config.data.max_tokens, .seed = config.seed});
  // Evenly spread, so that all pages take part.
  const std::vector<SentencePair>& valid = data.text.valid;
  std::vector<SentencePair> some;
  for (std::size_t i = 0; i < std::min(valid.size(), kValidPairs); ++i)
    some.push_back(valid[i * valid.size() / std::min(valid.size(), kValidPairs)]);
  TranslateLearnerOptions options{.loss = loss_terms(config), .valid_batch_tokens = config.train.batch_tokens};
  options.facts = {.data_folder = data.folder.string(),
                   .data_sha256 = data.sha256,
                   .counts = {{"train_pairs", std::int64_t(data.text.train.size())},
                              {"valid_pairs", std::int64_t(valid.size())},
                              {"test_pairs", std::int64_t(data.text.test.size())},
                              {"vocab_size", tokenizer.vocab_size()}}};
  return std::make_unique<TranslateLearner>(std::move(model), std::move(stream), encode_pairs(tokenizer, some),
                                            options);
}

}  // namespace attune::train
