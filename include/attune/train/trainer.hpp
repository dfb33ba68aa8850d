// One update after the other. Everything is a function of the step: data order, learning rate, dropout; so a run that
// is killed at any moment and resumed ends with the weights, bit for bit, of one that never stopped.
//
//   loss = sum over micro-batches of learner.loss(batch) / target tokens of all of them
//   clip the gradient; propose; [whoever looks at the proposal and scales a part of it]; apply
//
// What surrounds the updates (data, checkpoints, the log) is train/run.hpp.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "attune/optim/optimizer.hpp"
#include "attune/train/learner.hpp"

namespace attune::train {

class AttentionGuard;

struct TrainerOptions {
  std::int64_t accumulate = 1;    // micro-batches of one update
  std::int64_t most_refused = 8;  // updates refused in a row before it is an error
};

/// What the attention of an update looked like, over all layers and heads.
struct AttentionSummary {
  double largest_logit = 0;     // nats
  double entropy = 0;           // mean of the normalised entropy: 0 one key, 1 all keys alike
  double smallest_entropy = 0;  // that of the sharpest head
};
/// Throws Error if no module has finite statistics.
AttentionSummary summarize(std::span<const SiteStatistics> seen);

/// One optimizer update.
struct UpdateReport {
  double loss = 0;  // nats per target token, with all that is added in training
  double learning_rate = 0;
  double gradient_norm = 0;        // before clipping; NaN where the loss was not finite, and nothing was measured
  std::int64_t tokens = 0;         // through the model, without padding
  std::int64_t target_tokens = 0;  // of which the loss is the mean
  bool staged = false;             // by propose(): loss and gradient are finite, the update waits to be applied
  bool applied = true;             // false: it was refused; weights and step are as before
  bool went_back = false;          // the guard found a spike; weights, generator and step are those of a snapshot
  AttentionSummary attention;      // if asked for, and the loss is finite
  /// If asked for: an entry for each attention module and micro-batch, micro-batch by micro-batch.
  std::vector<SiteStatistics> sites;
  OutputStatistics output;  // if asked for
};

/// What an update is asked for beside its loss. None of it changes a bit of the weights.
struct Look {
  bool attention = false;  // UpdateReport::attention, sites
  bool output = false;     // UpdateReport::output
};

/// The weights to evaluate with, for as long as it lives; between two updates.
class EvaluationWeights {
 public:
  explicit EvaluationWeights(optim::Optimizer& optimizer) : optimizer_(optimizer) { optimizer_.eval(); }
  ~EvaluationWeights() { optimizer_.train(); }
  EvaluationWeights(const EvaluationWeights&) = delete;
  EvaluationWeights& operator=(const EvaluationWeights&) = delete;

 private:
  optim::Optimizer& optimizer_;
};

/// Updates a learner's model, batch by batch. What it needs to go on lies in the model (weights, generator), the
/// optimizer (moments, step) and the learner (cursor), which must outlive it.
class Trainer {
 public:
  Trainer(Learner& learner, optim::Optimizer& optimizer, const TrainerOptions& options = {});

  /// From now on updates are made under a guard, which must outlive the trainer. Null: none.
  void set_guard(AttentionGuard* guard) { guard_ = guard; }

  /// propose() and apply(), with the guard between them if there is one: takes the next micro-batches and updates the
  /// weights once. A loss or gradient that is not finite changes nothing and is reported; throws Error when that
  /// happens most_refused times in a row.
  UpdateReport update(Look look);
  UpdateReport update(bool attention = false) { return update(Look{.attention = attention}); }

  /// The first half: micro-batches forward and backward, and the update staged in the optimizer, at its learning rate
  /// or the one that is given. Between the halves the optimizer's update may be looked at and scaled, part by part.
  UpdateReport propose(Look look, std::optional<double> learning_rate = {});
  UpdateReport propose(bool attention = false, std::optional<double> learning_rate = {}) {
    return propose(Look{.attention = attention}, learning_rate);
  }
  /// The second half: applies the staged update, or counts a refused one. Sets report.applied.
  void apply(UpdateReport& report);

  /// The learner's validation loss. Throws Error while the weights are those that are trained and others were made to
  /// evaluate with: Optimizer::eval() before it (EvaluationWeights), train() after it.
  double validation_loss();

 private:
  Learner& learner_;
  optim::Optimizer& optimizer_;
  TrainerOptions options_;
  AttentionGuard* guard_ = nullptr;
  std::int64_t refused_ = 0;  // in a row
};

}  // namespace attune::train
