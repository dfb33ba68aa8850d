// One update: micro-batches forward and backward, then the optimizer.
#include "attune/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/autograd/ops/loss.hpp"
#include "attune/base/error.hpp"

namespace attune::train {
namespace {

/// Adds the heads of one attention to the summary; `heads` counts those that saw two keys at least once.
void add(const Statistics& s, AttentionSummary& sum, std::int64_t& heads) {
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    if (s.rows[i] == 0) continue;
    sum.largest_logit = std::max(sum.largest_logit, s.largest_logit[i]);
    if (s.entropy_normalized.empty()) continue;
    sum.entropy += s.entropy_normalized[i];
    sum.smallest_entropy =
        heads == 0 ? s.entropy_normalized[i] : std::min(sum.smallest_entropy, s.entropy_normalized[i]);
    ++heads;
  }
}

}  // namespace

AttentionSummary summarize(const models::Seq2SeqAttention& seen) {
  AttentionSummary sum;
  sum.largest_logit = -std::numeric_limits<double>::infinity();
  std::int64_t heads = 0;
  for (const std::vector<nn::LayerAttention>* stack : {&seen.encoder, &seen.decoder})
    for (const nn::LayerAttention& layer : *stack) {
      add(layer.self.statistics, sum, heads);
      add(layer.cross.statistics, sum, heads);
    }
  if (!std::isfinite(sum.largest_logit)) fail("summarize", "layers with finite statistics", "none");
  if (heads > 0) sum.entropy /= double(heads);
  return sum;
}

Trainer::Trainer(models::Seq2SeqTransformer& model, optim::Optimizer& optimizer, BatchStream& stream,
                 const TrainerOptions& options)
    : model_(model), optimizer_(optimizer), stream_(stream), options_(options) {
  if (options.accumulate < 1) fail("Trainer", "accumulate is 1 or more", fmt::format("{}", options.accumulate));
  if (!(options.label_smoothing >= 0 && options.label_smoothing < 1))
    fail("Trainer", "label_smoothing is 0 or more and less than 1", fmt::format("{}", options.label_smoothing));
  if (options.most_refused < 1) fail("Trainer", "most_refused is 1 or more", fmt::format("{}", options.most_refused));
}

UpdateReport Trainer::update(bool attention) {
  UpdateReport report;
  report.learning_rate = optimizer_.learning_rate();
  std::vector<Batch> batches;
  for (std::int64_t i = 0; i < options_.accumulate; ++i) batches.push_back(stream_.next());
  for (const Batch& batch : batches) {
    report.tokens += batch.num_tokens;
    for (const std::int32_t length : batch.target_lengths) report.target_tokens += length;
  }

  model_.train();
  optimizer_.zero_grad();
  // The mean over all micro-batches, so that accumulating is the same as one large batch: each sum of losses enters
  // with 1 / (all target tokens).
  const Tensor weight = Tensor::full({}, 1.0 / double(report.target_tokens));
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Batch& batch = batches[i];
    const Shape target_shape{batch.num_pairs, batch.target_length};
    const bool watch = attention && i == 0;
    models::Seq2SeqAttention seen;
    Tensor logits = model_(Ids(batch.source, {batch.num_pairs, batch.source_length}),
                           Ids(batch.target_in, target_shape), {.statistics = watch}, watch ? &seen : nullptr);
    const Tensor loss = cross_entropy(
        std::move(logits), Ids(batch.target_out, target_shape),
        {.label_smoothing = options_.label_smoothing, .ignore_index = kPaddingId, .reduction = Reduction::sum});
    report.loss += loss.item() / double(report.target_tokens);
    loss.backward(weight);
    if (watch && std::isfinite(loss.item())) report.attention = summarize(seen);
  }

  // A loss that is not finite makes the gradient so as well, except where the model cuts it off: both are looked at.
  report.applied = std::isfinite(report.loss) && optimizer_.propose();
  report.gradient_norm = optimizer_.gradient_norm();
  if (report.applied) {
    optimizer_.apply();
    refused_ = 0;
  } else if (++refused_ >= options_.most_refused) {
    fail("Trainer", "a finite loss and gradient",
         fmt::format("loss {}, gradient norm {} at step {}, {} updates in a row (a lower learning rate, clip_norm or "
                     "more warm-up may help)",
                     report.loss, report.gradient_norm, optimizer_.step(), refused_));
  }
  return report;
}

}  // namespace attune::train
