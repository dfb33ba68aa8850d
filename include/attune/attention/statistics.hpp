// What the attention pass can tell about itself, per head, in the same pass and without changing a bit of the result.
//
// Everything is centred on the row's running maximum, so that entropy stays exact where logits explode:
// H = ln sum - first / sum and Var = second / sum - (first / sum)^2, with first = sum e^{x-m} (x-m), second alike
// squared.
#pragma once
#include <cstdint>
#include <vector>

namespace attune {

/// Arrays are [B, H], row-major; a head all of whose rows are empty has 0 everywhere and rows = 0.
/// Means are over the rows that see a key; entropy's over those that see at least two.
/// entropy .. sink_mass are empty vectors for a normalizer without a log-sum-exp (sigmoid, sparsemax).
struct Statistics {
  int batch_size = 0, num_heads = 0;
  std::vector<std::int64_t> rows;           // rows that see at least one key
  std::vector<std::int64_t> choosing_rows;  // rows that see at least two keys: those that entropies are taken over
  std::vector<double> largest_score;        // over visible pairs, after the score, before any bias (so before the cap)
  std::vector<double> smallest_score;       // alike: max(largest_score, -smallest_score) is the largest |score|
  std::vector<double> largest_logit;        // over visible pairs, after the biases
  std::vector<std::int64_t> non_finite;     // visible logits that are NaN or +-infinity
  std::vector<double> lse;                  // mean, nats
  std::vector<double> entropy;              // mean, nats; a sink counts as a key
  std::vector<double> entropy_normalized;   // mean of H / ln(visible keys), 0 .. 1
  std::vector<double> entropy_min;          // nats
  std::vector<double> variance;             // mean variance of the logits under the probabilities, nats^2
  std::vector<double> largest_prob;         // mean over rows of the largest probability of a key
  std::vector<double> sink_mass;            // mean probability that a sink takes; 0 without one
};

}  // namespace attune
