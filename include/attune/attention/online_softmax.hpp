// Softmax without seeing the row first: running maximum, sum and, on request, the two moments that entropy and variance
// need. "Online normalizer calculation for softmax", arXiv:1805.02867
//
// A row's state is (max, sum, first, second) with sum = sum e^{x - max}, first = sum e^{x - max} (x - max), second
// alike with the square. Everything is centred on the running maximum: the uncentred form loses the entropy to
// cancellation just where logits explode.
#pragma once
#include "attune/attention/stage.hpp"

namespace attune {

/// Centres first and second on the larger maximum top[i]; sum and max stay for raise_maximum.
template <class T>
void move_moments(Rows<T>& r, const T* top) {
  for (int i = 0; i < r.queries; ++i) {
    // sum = 0: nothing was seen, max means nothing yet; -inf - (-inf) would be NaN.
    const bool seen = r.sum[i] > T(0);
    const T old = seen ? r.max[i] - top[i] : T(0);
    const T f = seen ? exp(old) : T(0);
    r.second[i] = f * (r.second[i] + old * (T(2) * r.first[i] + old * r.sum[i]));
    r.first[i] = f * (r.first[i] + old * r.sum[i]);
  }
}
/// Moves every row's sum to the larger maximum top[i] and leaves in rows.factor what the output so far is multiplied
/// by.
template <class T>
void raise_maximum(Rows<T>& r, const T* top) {
  for (int i = 0; i < r.queries; ++i) {
    const bool seen = r.sum[i] > T(0);
    r.factor[i] = seen ? exp(r.max[i] - top[i]) : T(0);
    r.sum[i] *= r.factor[i];
    r.max[i] = top[i];
  }
}

/// Entropy in nats of a finished row: H = ln sum - first / sum. Both terms are at least 0.
template <class T>
T row_entropy(const Rows<T>& r, int i) {
  return r.sum[i] > T(0) ? log(r.sum[i]) - r.first[i] / r.sum[i] : T(0);
}
/// Variance of the logits under the probabilities of a finished row, nats^2.
template <class T>
T row_variance(const Rows<T>& r, int i) {
  if (!(r.sum[i] > T(0))) return T(0);
  const T mean = r.first[i] / r.sum[i];
  return r.second[i] / r.sum[i] - mean * mean;
}

}  // namespace attune
