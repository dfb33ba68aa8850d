// The recall task: pairs of a key and a value, then questions: one of the keys, to be answered with its value. Nothing
// but attention can do that, so it shows at once whether attention learns.
//
//   k1 v1 k2 v2 ... kP vP  k? v? k? v? ... k?      P different keys out of K, values drawn from K with replacement
//
// The targets that count are the answers; every pair is asked once before one is asked again.
//
// Keys are tokens 0 .. K-1, values K .. 2K-1. A batch is a function of the seed and its number alone; nothing is read.
// "Zoology: measuring and improving recall in efficient language models", arXiv:2312.04927
#pragma once
#include <cstdint>
#include <memory>

#include "attune/train/gpt_learner.hpp"

namespace attune::train {

struct RecallOptions {
  std::int64_t pairs = 8;  // P
  std::int64_t keys = 16;  // K, at least P
  std::int64_t questions = 1;
  std::int64_t rows = 12;  // sequences a batch
  std::uint64_t seed = 1;

  std::int64_t length() const { return 2 * (pairs + questions) - 1; }
  std::int64_t vocab_size() const { return 2 * keys; }
};

/// Batch number `batch` (0 or more) of the training data; tokens and targets [rows, length()].
/// `held_out`: of the data that nobody trains on.
TokenBatch recall_batch(const RecallOptions& options, std::int64_t batch, bool held_out = false);

class RecallLearner : public GptLearner {
 public:
  RecallLearner(std::shared_ptr<models::Gpt> model, const RecallOptions& options, const LossTerms& terms = {});
  BatchCursor cursor() const override { return {.epoch = 0, .batch = batch_}; }
  void seek(const BatchCursor& cursor) override;
  void skip(std::int64_t micro_batches) override;
  double tokens_a_batch() const override { return double(options_.rows * options_.length()); }

 protected:
  TokenBatch next() override { return recall_batch(options_, batch_++); }

 private:
  RecallOptions options_;
  std::int64_t batch_ = 0;
};

/// The learner that a recipe of the task "recall" describes.
std::unique_ptr<Learner> make_recall_learner(const RunConfig& config, const TaskContext& context);

struct RecallScore {
  std::int64_t questions = 0;
  double loss = 0;      // nats a question
  double accuracy = 0;  // share of the questions whose most probable answer is right
};
/// On sequences that nobody trained on. Throws Error if the folder is no run of this task or has no checkpoint yet.
RecallScore score_recall(const std::filesystem::path& run, std::int64_t questions = 1024);

}  // namespace attune::train
