// The learner of the translation task: pairs of sentences for an encoder-decoder Transformer.
#pragma once
#include <memory>
#include <vector>

#include "attune/models/seq2seq.hpp"
#include "attune/train/learner.hpp"
#include "attune/train/task.hpp"

namespace attune::train {

struct TranslateLearnerOptions {
  LossTerms loss;
  std::int64_t valid_batch_tokens = 1024;  // batch_tokens of the validation's batches
  TaskFacts facts;
};

class TranslateLearner : public Learner {
 public:
  /// `valid` are the pairs of the validation loss; there may be none.
  TranslateLearner(std::shared_ptr<models::Seq2SeqTransformer> model, BatchStream stream, std::vector<TokenPair> valid,
                   const TranslateLearnerOptions& options = {});

  nn::Module& model() override { return *model_; }
  std::unique_ptr<MicroBatch> draw() override;
  Tensor loss(const MicroBatch& batch, std::vector<SiteStatistics>* seen = nullptr,
              OutputStatistics* output = nullptr) override;
  BatchCursor cursor() const override { return stream_.cursor(); }
  void seek(const BatchCursor& cursor) override { stream_.seek(cursor); }
  void skip(std::int64_t micro_batches) override { stream_.skip(micro_batches); }
  double tokens_a_batch() const override;
  double batches_an_epoch() const override { return double(stream_.batches_in_epoch()); }
  bool has_validation() const override { return !valid_.empty(); }
  double validation_loss() override;
  TaskFacts facts() const override { return options_.facts; }

 private:
  std::shared_ptr<models::Seq2SeqTransformer> model_;
  BatchStream stream_;
  std::vector<TokenPair> valid_;
  TranslateLearnerOptions options_;
};

/// The learner that a recipe of the task "translate" describes.
std::unique_ptr<Learner> make_translate_learner(const RunConfig& config, const TaskContext& context);

}  // namespace attune::train
