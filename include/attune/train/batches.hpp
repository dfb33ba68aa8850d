// Batches of sentence pairs with about as many tokens each: pairs of similar length come together, so little is
// padding. The batches of an epoch are a pure function of (pairs, options, epoch); a stream is resumed by writing down
// its cursor.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "attune/train/parallel_text.hpp"
#include "attune/train/tokenizer.hpp"

namespace attune::train {

/// A pair as a model sees it.
struct TokenPair {
  std::vector<std::int32_t> source;  // pieces, end
  std::vector<std::int32_t> target;  // begin, pieces, end
};

/// Encodes pairs, in parallel, in order.
std::vector<TokenPair> encode_pairs(const Tokenizer& tokenizer, std::span<const SentencePair> pairs);

/// Padded, row major. Padding is kPaddingId and only ever at the end of a row.
struct Batch {
  std::int64_t num_pairs = 0;                // B
  std::int64_t source_length = 0;            // S, tokens of the longest source
  std::int64_t target_length = 0;            // T, tokens of the longest target less one
  std::vector<std::int32_t> source;          // [B, S]
  std::vector<std::int32_t> target_in;       // [B, T], begins with kBeginId
  std::vector<std::int32_t> target_out;      // [B, T], the next token of each; ends with kEndId
  std::vector<std::int32_t> source_lengths;  // [B], tokens that are not padding
  std::vector<std::int32_t> target_lengths;  // [B], of target_in and of target_out alike
  std::vector<std::int64_t> pairs;           // [B], index in the list of pairs
  std::int64_t num_tokens = 0;               // source and target tokens, begin and end included, without padding
};

/// Pads the named pairs to one batch, in that order.
Batch make_batch(std::span<const TokenPair> pairs, std::span<const std::int64_t> which);

struct BatchOptions {
  std::int64_t batch_tokens = 1024;  // longest side of the batch times its pairs stays within this
  std::int64_t max_tokens = 100;     // a pair with this many tokens or more on a side is left out of training
  std::uint64_t seed = 1;
};

/// Where a stream stands: the next batch to be given is number `batch` of epoch `epoch`.
struct BatchCursor {
  std::int64_t epoch = 0, batch = 0;
  friend bool operator==(const BatchCursor&, const BatchCursor&) = default;
};

/// Which pairs form which batch in an epoch: pairs in random order are sorted by length in steps of 4 tokens (target,
/// then source), cut into batches, and the batches come in random order.
std::vector<std::vector<std::int64_t>> plan_epoch(std::span<const TokenPair> pairs, const BatchOptions& options,
                                                  std::int64_t epoch);

/// All pairs, once, sorted by source length and cut into batches: for validation and translation. No pair is left out.
std::vector<std::vector<std::int64_t>> plan_in_order_of_length(std::span<const TokenPair> pairs,
                                                               std::int64_t batch_tokens);

/// An endless stream of batches over the epochs.
class BatchStream {
 public:
  /// Throws Error if no pair is short enough or an option is not positive.
  BatchStream(std::vector<TokenPair> pairs, const BatchOptions& options);

  Batch next();
  BatchCursor cursor() const { return cursor_; }
  /// Goes to where a stream with equal pairs and options stood. Throws Error for a place that does not exist.
  void seek(const BatchCursor& cursor);
  /// Moves on by so many batches, as next() would. Throws Error for a negative number.
  void skip(std::int64_t batches);

  /// Of the epoch that the cursor is in; differs by a few between epochs.
  std::int64_t batches_in_epoch() const { return std::int64_t(plan_.size()); }
  const std::vector<TokenPair>& pairs() const { return pairs_; }

 private:
  void enter_epoch(std::int64_t epoch);

  std::vector<TokenPair> pairs_;
  BatchOptions options_;
  BatchCursor cursor_;
  std::vector<std::vector<std::int64_t>> plan_;  // of the epoch cursor_.epoch
};

}  // namespace attune::train
