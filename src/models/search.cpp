// Greedy and beam search over a StepDecoder. A beam is a list of rows of the decoder; after every step the rows that go
// on are named to the decoder, which gathers its cache accordingly.
#include "attune/models/search.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"

namespace attune::models {
namespace {

/// One way to go on from a row.
struct Candidate {
  std::int64_t row = 0;    // of the decoder
  std::int32_t token = 0;  // what is appended
  double log_prob = 0;     // of the whole hypothesis with the token, nats
};

/// What one sentence is doing: its running hypotheses and those that have ended.
struct Sentence {
  std::vector<Hypothesis> running, ended;
  bool done = false;
};

double penalty(std::size_t length, double alpha) { return std::pow((5.0 + double(length)) / 6.0, alpha); }

/// The `count` most probable tokens after one row, most probable first (of equals the smaller token).
/// logits [V]; log p = logit - lse.
std::vector<Candidate> best_tokens(const float* logits, std::int64_t vocab_size, int count, std::int64_t row,
                                   double log_prob) {
  float largest = -std::numeric_limits<float>::infinity();
  bool sound = true;
  for (std::int64_t i = 0; i < vocab_size; ++i) {
    sound &= logits[i] < std::numeric_limits<float>::infinity();  // false for NaN as well
    largest = std::max(largest, logits[i]);
  }
  if (!sound || !std::isfinite(largest))
    fail("search", "logits are numbers and one of a row is finite", fmt::format("largest logit {}", largest));
  double sum = 0;
  for (std::int64_t i = 0; i < vocab_size; ++i) sum += double(std::exp(logits[i] - largest));
  const double lse = double(largest) + std::log(sum);

  std::vector<std::int32_t> order;  // of the best, kept sorted; `count` is small
  for (std::int32_t i = 0; i < vocab_size; ++i) {
    if (int(order.size()) == count && logits[i] <= logits[order.back()]) continue;
    if (int(order.size()) == count) order.pop_back();
    const auto place = std::upper_bound(order.begin(), order.end(), i,
                                        [&](std::int32_t a, std::int32_t b) { return logits[a] > logits[b]; });
    order.insert(place, i);
  }
  std::vector<Candidate> best;
  for (std::int32_t token : order) best.push_back({row, token, log_prob + double(logits[token]) - lse});
  return best;
}

/// Takes the best candidates of a sentence: those that end among the first beam_size are set aside, the others run on.
/// parents[i] is the decoder's row of running hypothesis i.
void advance(Sentence& sentence, std::vector<Candidate> candidates, std::int64_t first_row, std::int32_t end,
             std::int64_t max_length, const SearchOptions& options, std::vector<std::int64_t>& parents) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.log_prob > b.log_prob; });
  std::vector<Hypothesis> running;
  std::vector<std::int64_t> rows;
  for (std::size_t rank = 0; rank < candidates.size() && int(running.size()) < options.beam_size; ++rank) {
    const Candidate& candidate = candidates[rank];
    if (candidate.log_prob == -std::numeric_limits<double>::infinity()) break;  // a token that cannot come
    const Hypothesis& parent = sentence.running[std::size_t(candidate.row - first_row)];
    Hypothesis next{parent.ids, candidate.log_prob, 0, candidate.token == end};
    next.score = next.log_prob / penalty(parent.ids.size() + 1, options.length_penalty);
    if (next.finished) {
      if (int(rank) < options.beam_size) sentence.ended.push_back(std::move(next));
      continue;
    }
    next.ids.push_back(candidate.token);
    running.push_back(std::move(next));
    rows.push_back(candidate.row);
  }
  sentence.running = std::move(running);

  // A running log-probability can only fall, and its penalty is largest at the greatest length: this bounds what it may
  // still become.
  double bound = -std::numeric_limits<double>::infinity(), best = bound;
  for (const Hypothesis& h : sentence.running)
    bound = std::max(bound, h.log_prob / penalty(std::size_t(max_length), options.length_penalty));
  for (const Hypothesis& h : sentence.ended) best = std::max(best, h.score);
  const bool full = !sentence.running.empty() && std::int64_t(sentence.running[0].ids.size()) >= max_length;
  sentence.done = sentence.running.empty() || full || int(sentence.ended.size()) >= options.beam_size || best >= bound;
  if (!sentence.done) parents.insert(parents.end(), rows.begin(), rows.end());
}

/// The hypotheses of a sentence, best first. Ended ones come before those that were cut off.
std::vector<Hypothesis> harvest(Sentence& sentence, int beam_size) {
  std::vector<Hypothesis> all = std::move(sentence.ended);
  for (Hypothesis& h : sentence.running) all.push_back(std::move(h));
  std::stable_sort(all.begin(), all.end(), [](const Hypothesis& a, const Hypothesis& b) {
    return a.finished != b.finished ? a.finished : a.score > b.score;
  });
  if (int(all.size()) > beam_size) all.resize(std::size_t(beam_size));
  return all;
}

}  // namespace

std::vector<std::vector<Hypothesis>> search(StepDecoder& decoder, std::span<const std::int64_t> max_lengths,
                                            std::int32_t begin, std::int32_t end, const SearchOptions& options) {
  if (options.beam_size < 1 || options.beam_size > 1024)
    fail("search", "beam_size is 1 to 1024", fmt::format("{}", options.beam_size));
  if (!(options.length_penalty >= 0) || !std::isfinite(options.length_penalty))
    fail("search", "length_penalty is a number of 0 or more", fmt::format("{}", options.length_penalty));
  for (std::int64_t length : max_lengths)
    if (length < 1) fail("search", "greatest lengths are positive", fmt::format("{}", length));

  std::vector<Sentence> sentences(max_lengths.size());
  for (Sentence& s : sentences) s.running.push_back({});
  for (bool first = true;; first = false) {
    std::vector<std::int32_t> tokens;      // [rows] what is appended to each row
    std::vector<std::size_t> sentence_of;  // [rows]
    for (std::size_t s = 0; s < sentences.size(); ++s) {
      if (sentences[s].done) continue;
      for (const Hypothesis& h : sentences[s].running) {
        tokens.push_back(first ? begin : h.ids.back());
        sentence_of.push_back(s);
      }
    }
    if (tokens.empty()) break;
    const Tensor logits = decoder.step(tokens);
    if (logits.rank() != 2 || logits.shape()[0] != std::int64_t(tokens.size()) || end < 0 || end >= logits.shape()[1])
      fail("search", fmt::format("logits have shape [{}, V] and end token {} is below V", tokens.size(), end),
           logits.shape().text());
    const std::int64_t vocab_size = logits.shape()[1];
    const float* values = logits.data<float>();

    // beam_size of the 2 * beam_size best cannot end, so the beam stays full as long as the vocabulary allows.
    const int count = options.beam_size == 1 ? 1 : int(std::min<std::int64_t>(2 * options.beam_size, vocab_size));
    std::vector<std::vector<Candidate>> best(tokens.size());
    std::vector<std::int64_t> row_in_sentence(tokens.size(), 0);
    for (std::size_t r = 1; r < tokens.size(); ++r)
      if (sentence_of[r] == sentence_of[r - 1]) row_in_sentence[r] = row_in_sentence[r - 1] + 1;
    parallel_for(std::int64_t(tokens.size()), [&](std::int64_t r) {
      const Hypothesis& h =
          sentences[sentence_of[std::size_t(r)]].running[std::size_t(row_in_sentence[std::size_t(r)])];
      best[std::size_t(r)] = best_tokens(values + r * vocab_size, vocab_size, count, r, h.log_prob);
    });

    std::vector<std::int64_t> parents;
    for (std::size_t r = 0; r < tokens.size();) {
      const std::size_t s = sentence_of[r], first_row = r;
      std::vector<Candidate> candidates;
      for (; r < tokens.size() && sentence_of[r] == s; ++r)
        candidates.insert(candidates.end(), best[r].begin(), best[r].end());
      advance(sentences[s], std::move(candidates), std::int64_t(first_row), end, max_lengths[s], options, parents);
    }
    if (parents.empty()) break;
    bool moved = parents.size() != tokens.size();
    for (std::size_t r = 0; r < parents.size() && !moved; ++r) moved = parents[r] != std::int64_t(r);
    if (moved) decoder.reorder(parents);
  }

  std::vector<std::vector<Hypothesis>> found;
  for (Sentence& s : sentences) found.push_back(harvest(s, options.beam_size));
  return found;
}

}  // namespace attune::models
