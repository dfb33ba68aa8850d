// Questions of recall: made from a counter, never stored.
#include "attune/train/recall_task.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"
#include "attune/train/checkpoint.hpp"

namespace attune::train {
namespace {

/// Random streams of this file lie apart from all others: its number in the upper half, the batch in the lower.
constexpr std::uint64_t kRecallStream = std::uint64_t(0x7265636c) << 32, kHeldOutStream = std::uint64_t(0x72656368)
                                                                                          << 32;
constexpr std::int64_t kHeldOutQuestions = 256;  // of the validation loss

RecallOptions recall_options(const RunConfig& config) {
  RecallOptions options{
      .pairs = config.data.pairs, .keys = config.data.keys, .questions = config.data.questions, .seed = config.seed};
  options.rows = std::max<std::int64_t>(1, config.train.batch_tokens / options.length());
  return options;
}

std::vector<TokenBatch> held_out(const RecallOptions& options, std::int64_t questions) {
  std::vector<TokenBatch> batches;
  for (std::int64_t i = 0; i * options.rows * options.questions < questions; ++i)
    batches.push_back(recall_batch(options, i, true));
  return batches;
}

}  // namespace

TokenBatch recall_batch(const RecallOptions& o, std::int64_t batch, bool held_out) {
  if (o.pairs < 1 || o.keys < o.pairs || o.questions < 1 || o.rows < 1 || batch < 0)
    fail(
        "recall_batch", "a pair or more, as many keys, a question, a row, a batch from 0 up",
        fmt::format("{} pairs, {} keys, {} questions, {} rows, batch {}", o.pairs, o.keys, o.questions, o.rows, batch));
  Generator generator(o.seed, (held_out ? kHeldOutStream : kRecallStream) + std::uint64_t(batch));
  std::vector<std::int32_t> tokens, targets;
  std::vector<std::int32_t> keys(static_cast<std::size_t>(o.keys));
  for (std::int64_t row = 0; row < o.rows; ++row) {
    std::iota(keys.begin(), keys.end(), 0);
    generator.shuffle(keys);
    const std::size_t first = tokens.size();
    for (std::int64_t p = 0; p < o.pairs; ++p) {
      tokens.push_back(keys[std::size_t(p)]);
      tokens.push_back(std::int32_t(o.keys + std::int64_t(generator.below(std::uint64_t(o.keys)))));
    }
    targets.insert(targets.end(), std::size_t(2 * o.pairs), kNoTarget);
    std::vector<std::size_t> order(static_cast<std::size_t>(o.pairs));
    std::iota(order.begin(), order.end(), std::size_t(0));
    for (std::int64_t question = 0; question < o.questions; ++question) {
      if (question % o.pairs == 0) generator.shuffle(order);
      const std::size_t asked = first + 2 * order[std::size_t(question % o.pairs)];
      if (question > 0) {  // the answer to the question before
        tokens.push_back(targets.back());
        targets.push_back(kNoTarget);
      }
      tokens.push_back(tokens[asked]);
      targets.push_back(tokens[asked + 1]);
    }
  }
  const Shape shape{o.rows, o.length()};
  return {Ids(std::move(tokens), shape), Ids(std::move(targets), shape), o.rows * o.questions};
}

RecallLearner::RecallLearner(std::shared_ptr<models::Gpt> model, const RecallOptions& options, const LossTerms& terms)
    : GptLearner(std::move(model), held_out(options, kHeldOutQuestions), terms,
                 {.counts = {{"pairs", options.pairs},
                             {"keys", options.keys},
                             {"questions", options.questions},
                             {"vocab_size", options.vocab_size()}}}),
      options_(options) {}

void RecallLearner::seek(const BatchCursor& cursor) {
  if (cursor.epoch != 0 || cursor.batch < 0)
    fail("RecallLearner::seek", "a batch from 0 up of epoch 0", fmt::format("{} of {}", cursor.batch, cursor.epoch));
  batch_ = cursor.batch;
}

void RecallLearner::skip(std::int64_t micro_batches) {
  if (micro_batches < 0) fail("RecallLearner::skip", "a number of 0 or more", fmt::format("{}", micro_batches));
  batch_ += micro_batches;
}

std::unique_ptr<Learner> make_recall_learner(const RunConfig& config, const TaskContext&) {
  const RecallOptions options = recall_options(config);
  return std::make_unique<RecallLearner>(make_gpt(config, options.vocab_size(), options.length()), options,
                                         loss_terms(config));
}

RecallScore score_recall(const std::filesystem::path& run, std::int64_t questions) {
  const RunFiles files(run);
  const RunConfig config = read_run_config(files.config);
  if (config.task != "recall")
    fail("score_recall", fmt::format("a run of the task recall in {}", files.folder.string()), config.task);
  if (!has_checkpoint(files.checkpoint))
    fail("score_recall", "a run with a checkpoint", fmt::format("none in {}", files.checkpoint.string()));
  const RecallOptions options = recall_options(config);
  const std::shared_ptr<models::Gpt> model = make_gpt(config, options.vocab_size(), options.length());
  restore_weights(load_weights(files.checkpoint), *model);
  model->eval();
  const std::vector<TokenBatch> batches = held_out(options, questions);
  RecallScore score{.loss = mean_loss(*model, batches)};
  const NoGrad no_grad;
  std::int64_t right = 0;
  const std::int64_t classes = options.vocab_size();
  for (const TokenBatch& batch : batches) {
    const Tensor logits = model->logits(batch.tokens).to(DType::float32);
    for (std::int64_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] == kNoTarget) continue;
      const float* x = logits.data<float>() + i * classes;
      right += std::max_element(x, x + classes) - x == batch.targets[i];
    }
    score.questions += batch.counted;
  }
  score.accuracy = double(right) / double(score.questions);
  return score;
}

}  // namespace attune::train
