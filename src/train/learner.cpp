// What learners share.
#include "attune/train/learner.hpp"

#include <fmt/format.h>

#include <cmath>

#include "attune/base/error.hpp"
#include "kernels/loss.hpp"

namespace attune::train {

void check(const LossTerms& terms) {
  if (!(terms.label_smoothing >= 0 && terms.label_smoothing < 1))
    fail("Learner", "label_smoothing is 0 or more and less than 1", fmt::format("{}", terms.label_smoothing));
  if (!(terms.z_loss >= 0 && std::isfinite(terms.z_loss)))
    fail("Learner", "z_loss is finite and 0 or more", fmt::format("{}", terms.z_loss));
}

void add_output(const Tensor& logits, const Ids& targets, std::int32_t ignored, OutputStatistics& to) {
  if (logits.dtype() != DType::float32 || logits.rank() < 1 || targets.size() * logits.shape().back() != logits.size())
    fail("add_output", "float32 logits [..., V] and one target a row",
         fmt::format("got {} and {} targets", logits.shape().text(), targets.size()));
  const std::int64_t classes = logits.shape().back(), rows = targets.size();
  for (std::int64_t i = 0; i < rows; ++i) {
    if (targets[i] != ignored && (targets[i] < 0 || targets[i] >= classes))
      fail("add_output", fmt::format("targets in 0 .. {}", classes - 1), fmt::format("got {}", targets[i]));
  }
  // The plain cross-entropy of a row is lse - logit of its label.
  std::vector<float> loss(std::size_t(rows), 0.0f);
  kernels::CrossEntropy<float> c;
  c.rows = rows;
  c.classes = classes;
  c.logits = logits.data<float>();
  c.labels = targets.data();
  c.ignore_index = ignored;
  c.loss = loss.data();
  kernels::cross_entropy(c);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (targets[i] == ignored) continue;
    to.lse_sum += double(loss[std::size_t(i)]) + double(c.logits[i * classes + targets[i]]);
    ++to.tokens;
  }
}

void foreign_batch() { fail("Learner::loss", "a batch from this learner's draw()", "it is of another kind"); }

}  // namespace attune::train
