// One update after the other. Everything is a function of the step: data order, learning rate, dropout; so a run that
// is killed at any moment and resumed ends with the weights, bit for bit, of one that never stopped.
//
//   loss = sum over micro-batches of cross_entropy(model(source, target)) / target tokens of all of them
//   clip the gradient; propose; apply
//
// What surrounds the updates (data, checkpoints, the log) is train/run.hpp.
#pragma once
#include <cstdint>

#include "attune/models/seq2seq.hpp"
#include "attune/optim/optimizer.hpp"
#include "attune/train/batches.hpp"

namespace attune::train {

struct TrainerOptions {
  double label_smoothing = 0;     // 0 .. 1
  std::int64_t accumulate = 1;    // micro-batches of one update
  std::int64_t most_refused = 8;  // updates refused in a row before it is an error
};

/// What the attention of a batch looked like, over all layers and heads: encoder, decoder and cross.
struct AttentionSummary {
  double largest_logit = 0;     // nats
  double entropy = 0;           // mean of the normalised entropy: 0 one key, 1 all keys alike
  double smallest_entropy = 0;  // that of the sharpest head
};
/// Throws Error if no layer has statistics.
AttentionSummary summarize(const models::Seq2SeqAttention& seen);

/// One optimizer update.
struct UpdateReport {
  double loss = 0;  // nats per target token, label smoothing included
  double learning_rate = 0;
  double gradient_norm = 0;        // before clipping
  std::int64_t tokens = 0;         // source and target, begin and end included, without padding
  std::int64_t target_tokens = 0;  // of which the loss is the mean
  bool applied = true;             // false: loss or gradient was not finite; weights and step are as before
  AttentionSummary attention;      // of the first micro-batch, if asked for
};

/// Updates a model, batch by batch. What it needs to go on lies in the model (weights, generator), the optimizer
/// (moments, step) and the stream (cursor), which must outlive it.
class Trainer {
 public:
  Trainer(models::Seq2SeqTransformer& model, optim::Optimizer& optimizer, BatchStream& stream,
          const TrainerOptions& options);

  /// Takes the next micro-batches and updates the weights once. Asking for attention changes no bit of them.
  /// A loss or gradient that is not finite changes nothing and is reported; Throws Error when that happens
  /// most_refused times in a row.
  UpdateReport update(bool attention = false);

 private:
  models::Seq2SeqTransformer& model_;
  optim::Optimizer& optimizer_;
  BatchStream& stream_;
  TrainerOptions options_;
  std::int64_t refused_ = 0;  // in a row
};

}  // namespace attune::train
