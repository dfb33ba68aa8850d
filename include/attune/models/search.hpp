// From next-token logits to sentences: greedy and beam search, for many sentences at once.
//
//   score(y) = log p(y) / penalty(|y|),   penalty(n) = ((5 + n) / 6)^length_penalty
//
// (Wu et al., arXiv:1609.08144, equation 14 without coverage.) |y| counts the end token. A search sees a model through
// StepDecoder alone; sentences that are done leave the batch, so the last long one does not pay for the others.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "attune/autograd/tensor.hpp"

namespace attune::models {

/// A model that writes many rows, one token at a time, and remembers what it has written.
class StepDecoder {
 public:
  virtual ~StepDecoder() = default;
  /// Appends tokens[r] to row r and returns the logits of what follows, [rows, V].
  virtual Tensor step(std::span<const std::int32_t> tokens) = 0;
  /// From now on row r continues what row rows[r] was. Rows may be repeated and left out; their number may change.
  virtual void reorder(std::span<const std::int64_t> rows) = 0;
};

struct SearchOptions {
  int beam_size = 1;          // hypotheses kept for each sentence; 1 is greedy
  double length_penalty = 1;  // 0: compare log-probabilities; larger: prefer longer sentences
};

/// One translation.
struct Hypothesis {
  std::vector<std::int32_t> ids;  // without begin and end
  double log_prob = 0;            // nats, of the ids and the end token
  double score = 0;               // log_prob / penalty
  bool finished = false;          // false: cut off at its greatest length
};

/// Searches for a continuation of `begin` for every sentence.
///
/// decoder      holds one row a sentence at first, nothing written yet
/// max_lengths  [sentences] the most tokens that are written, the end token included; each at least 1
/// returns      for each sentence up to beam_size hypotheses, best score first, at least one
/// Edge         beam_size 1 takes the largest logit (the first of equals) at every step. A sentence's beam search ends
///              when beam_size hypotheses have ended, or when nothing that runs can still overtake the best of them.
/// Throws       Error for a logit that is NaN or +infinity, a row of -infinity, or options out of range.
std::vector<std::vector<Hypothesis>> search(StepDecoder& decoder, std::span<const std::int64_t> max_lengths,
                                            std::int32_t begin, std::int32_t end, const SearchOptions& options = {});

}  // namespace attune::models
