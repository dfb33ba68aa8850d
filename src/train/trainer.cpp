// One update: micro-batches forward and backward, then the optimizer.
#include "attune/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/train/attention_guard.hpp"

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

AttentionSummary summarize(std::span<const SiteStatistics> seen) {
  AttentionSummary sum;
  sum.largest_logit = -std::numeric_limits<double>::infinity();
  std::int64_t heads = 0;
  for (const SiteStatistics& site : seen) add(site.statistics, sum, heads);
  if (!std::isfinite(sum.largest_logit)) fail("summarize", "attention with finite statistics", "none");
  if (heads > 0) sum.entropy /= double(heads);
  return sum;
}

Trainer::Trainer(Learner& learner, optim::Optimizer& optimizer, const TrainerOptions& options)
    : learner_(learner), optimizer_(optimizer), options_(options) {
  if (options.accumulate < 1) fail("Trainer", "accumulate is 1 or more", fmt::format("{}", options.accumulate));
  if (options.most_refused < 1) fail("Trainer", "most_refused is 1 or more", fmt::format("{}", options.most_refused));
}

UpdateReport Trainer::propose(Look look, std::optional<double> learning_rate) {
  UpdateReport report;
  report.learning_rate = learning_rate.value_or(optimizer_.learning_rate());
  std::vector<std::unique_ptr<MicroBatch>> batches;
  for (std::int64_t i = 0; i < options_.accumulate; ++i) {
    batches.push_back(learner_.draw());
    report.tokens += batches.back()->num_tokens;
    report.target_tokens += batches.back()->target_tokens;
  }

  learner_.model().train();
  optimizer_.zero_grad();
  // The mean over all micro-batches, so that accumulating is the same as one large batch: each sum of losses enters
  // with 1 / (all target tokens).
  const Tensor weight = Tensor::full({}, 1.0 / double(report.target_tokens));
  for (const std::unique_ptr<MicroBatch>& batch : batches) {
    const Tensor loss =
        learner_.loss(*batch, look.attention ? &report.sites : nullptr, look.output ? &report.output : nullptr);
    report.loss += loss.item() / double(report.target_tokens);
    loss.backward(weight);
  }
  if (!report.sites.empty() && std::isfinite(report.loss)) report.attention = summarize(report.sites);

  // A loss that is not finite makes the gradient so as well, except where the model cuts it off: both are looked at.
  report.staged =
      std::isfinite(report.loss) && (learning_rate ? optimizer_.propose(*learning_rate) : optimizer_.propose());
  // The optimizer knows that of the gradient which it was shown last.
  report.gradient_norm =
      std::isfinite(report.loss) ? optimizer_.gradient_norm() : std::numeric_limits<double>::quiet_NaN();
  report.applied = false;
  return report;
}

void Trainer::apply(UpdateReport& report) {
  report.applied = report.staged;
  if (report.staged) {
    optimizer_.apply();
    report.staged = false;
    refused_ = 0;
  } else if (++refused_ >= options_.most_refused) {
    fail("Trainer", "a finite loss and gradient",
         fmt::format("loss {}, gradient norm {} at step {}, {} updates in a row (a lower learning rate, clip_norm or "
                     "more warm-up may help)",
                     report.loss, report.gradient_norm, optimizer_.step(), refused_));
  }
}

double Trainer::validation_loss() {
  optimizer_.require_eval("Trainer::validation_loss");
  return learner_.validation_loss();
}

UpdateReport Trainer::update(Look look) {
  if (guard_ == nullptr) {
    UpdateReport report = propose(look);
    apply(report);
    return report;
  }
  guard_->begin();
  look.attention = look.attention || guard_->watches();
  UpdateReport report = propose(look);
  if (!guard_->inspect({report.loss, report.staged, report.sites})) {
    report.staged = false;
    report.went_back = true;
    refused_ = 0;
    return report;
  }
  apply(report);
  if (report.applied) guard_->finish();
  return report;
}

}  // namespace attune::train
