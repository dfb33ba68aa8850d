// What learners with a decoder-only Transformer share: batches of tokens with a target each, their loss, the statistics
// of the attention, and validation on batches that are fixed.
#pragma once
#include <memory>
#include <vector>

#include "attune/models/gpt.hpp"
#include "attune/train/learner.hpp"
#include "attune/train/task.hpp"

namespace attune::train {

/// Rows of tokens, and what follows each of them.
struct TokenBatch {
  Ids tokens, targets;       // [R, T]; a target of kNoTarget counts nothing
  std::int64_t counted = 0;  // targets that count
};
inline constexpr std::int32_t kNoTarget = -100;

/// Mean cross-entropy over all targets that count, nats, in evaluation mode; the mode is put back. Throws Error if
/// there are none.
double mean_loss(models::Gpt& model, const std::vector<TokenBatch>& batches);

class GptLearner : public Learner {
 public:
  nn::Module& model() override { return *model_; }
  models::Gpt& gpt() { return *model_; }
  std::unique_ptr<MicroBatch> draw() override;
  Tensor loss(const MicroBatch& batch, std::vector<SiteStatistics>* seen = nullptr,
              OutputStatistics* output = nullptr) override;
  bool has_validation() const override { return !valid_.empty(); }
  double validation_loss() override { return mean_loss(*model_, valid_); }
  TaskFacts facts() const override { return facts_; }

 protected:
  GptLearner(std::shared_ptr<models::Gpt> model, std::vector<TokenBatch> valid, const LossTerms& terms,
             TaskFacts facts);
  /// The next batch of the training data.
  virtual TokenBatch next() = 0;

 private:
  std::shared_ptr<models::Gpt> model_;
  std::vector<TokenBatch> valid_;
  LossTerms terms_;
  TaskFacts facts_;
};

/// The model that a recipe describes, with weights from its seed, for a vocabulary of this size and sequences of at
/// most `context` tokens. Throws Error for what a decoder-only Transformer cannot take from a recipe.
models::GptOptions gpt_options(const RunConfig& config, std::int64_t vocab_size, std::int64_t context);
std::shared_ptr<models::Gpt> make_gpt(const RunConfig& config, std::int64_t vocab_size, std::int64_t context);

}  // namespace attune::train
