// Learner: a model together with the data that it learns from, as the loop sees it (train/trainer.hpp for one update,
// train/run.hpp for all of them). A task is one class derived from it; nothing else in the loop knows which task it is.
//
//   batch = draw();   loss(batch) = sum over the batch's target tokens of their loss, nats
//
// Everything is a function of the place in the data (cursor) and of the model's weights and generator, so that a run is
// resumed by putting these back.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attune/autograd/tensor.hpp"
#include "attune/nn/attention_sites.hpp"
#include "attune/nn/module.hpp"
#include "attune/train/batches.hpp"

namespace attune::train {

/// What one attention of a model saw in one forward pass; nn::AttentionWatch collects it.
using nn::SiteStatistics;

/// The logits of a model's output at its target tokens: where they run away, their log-sum-exp does so first.
struct OutputStatistics {
  double lse_sum = 0;       // log of the sum of exponentials of a token's logits, over all target tokens; nats
  std::int64_t tokens = 0;  // target tokens
  /// Mean over the target tokens, nats; NaN for none.
  double lse() const { return lse_sum / double(tokens); }
};
/// Adds logits [..., V] in float32 of those tokens whose target is not `ignored`.
void add_output(const Tensor& logits, const Ids& targets, std::int32_t ignored, OutputStatistics& to);

/// What a loss is the sum over. Each learner derives its own, with its tokens.
struct MicroBatch {
  virtual ~MicroBatch() = default;
  std::int64_t num_tokens = 0;     // that go through the model, without padding
  std::int64_t target_tokens = 0;  // of which each has a loss
};

/// What the loss is made of beside the cross-entropy.
struct LossTerms {
  double label_smoothing = 0;  // 0 .. 1, 1 excluded
  double z_loss = 0;           // adds z_loss * lse^2 a target token, lse the log of its sum of exponentials
};
/// Throws Error for a term out of its range.
void check(const LossTerms& terms);

/// What a task says about its data and model, beside what every run has.
struct TaskFacts {
  std::string data_folder;  // absolute; "" for data that is made, not read
  std::string data_sha256;  // of the training data: what a resumed run must find again
  /// Whole numbers by name, in the order of run.json: "train_pairs", "vocab_size", ...
  std::vector<std::pair<std::string, std::int64_t>> counts;
  /// The number of that name; 0 if there is none.
  std::int64_t count(std::string_view name) const;
};

class Learner {
 public:
  virtual ~Learner() = default;
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  virtual nn::Module& model() = 0;

  /// The next micro-batch of the training data; the cursor moves on by one.
  virtual std::unique_ptr<MicroBatch> draw() = 0;
  /// The sum of the target tokens' losses, nats, shape []; in the mode (training or not) that the model is in.
  /// With `seen`, one entry is appended for every attention of the model (nn::attention_sites); with `output`, the
  /// logits are added to it. The loss has the same bits. The batch must come from this learner's draw().
  virtual Tensor loss(const MicroBatch& batch, std::vector<SiteStatistics>* seen = nullptr,
                      OutputStatistics* output = nullptr) = 0;

  /// Where the training data stands, and how to go back there.
  virtual BatchCursor cursor() const = 0;
  virtual void seek(const BatchCursor& cursor) = 0;
  /// Leaves out the next micro-batches, as if they had been drawn.
  virtual void skip(std::int64_t micro_batches) = 0;
  /// num_tokens of a micro-batch, on average over the epoch that the cursor is in.
  virtual double tokens_a_batch() const = 0;
  /// Micro-batches of an epoch, about; 0 where data have no epochs.
  virtual double batches_an_epoch() const { return 0; }

  /// Whether there is data that the model does not learn from.
  virtual bool has_validation() const = 0;
  /// Mean cross-entropy of that data, nats a target token, without dropout and without what is added in training.
  /// Changes nothing.
  virtual double validation_loss() = 0;

  virtual TaskFacts facts() const = 0;

 protected:
  Learner() = default;
};

[[noreturn]] void foreign_batch();
/// The batch as the type that a learner's own draw() makes. Throws Error for a batch of another learner.
template <class Own>
const Own& own_batch(const MicroBatch& batch) {
  if (const Own* own = dynamic_cast<const Own*>(&batch)) return *own;
  foreign_batch();
}

}  // namespace attune::train
