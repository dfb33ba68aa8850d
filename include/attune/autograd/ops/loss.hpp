// Cross-entropy of logits against class labels, fused with softmax: probabilities are never stored.
#pragma once
#include "attune/autograd/tensor.hpp"

namespace attune {

enum class Reduction : std::uint8_t {
  mean,  // over the rows that count
  sum
};

struct CrossEntropyOptions {
  /// The target is (1 - label_smoothing) on the label plus label_smoothing / V on every class. arXiv:1512.00567
  double label_smoothing = 0;
  /// Adds z_loss * lse^2 to each row that counts, lse the log of its sum of exponentials. arXiv:2204.02311
  double z_loss = 0;
  /// Rows with this label count nothing and get gradient 0.
  std::int32_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
};

/// The loss in nats, shape []; logits [..., V], targets [...]. With no row that counts: 0 and gradients 0.
/// Give the logits away (std::move) and their memory is reused for the gradient where nobody else needs it.
/// Throws Error for a label that is neither in 0 .. V-1 nor ignore_index.
Tensor cross_entropy(Tensor logits, const Ids& targets, const CrossEntropyOptions& = {});
/// Mean of (a - b)^2, shape [].
Tensor mean_squared_error(const Tensor& a, const Tensor& b);

}  // namespace attune
