// Batches of windows of one long text: rows of as many characters, each with the one that follows it.
//
// An epoch cuts the text into windows that touch each other, from a beginning that is drawn anew, and shuffles them.
// The batches of an epoch are a pure function of (text, options, epoch); a stream is resumed by its cursor.
#pragma once
#include <cstdint>
#include <vector>

#include "attune/train/batches.hpp"
#include "attune/train/gpt_learner.hpp"

namespace attune::train {

struct TextStreamOptions {
  std::int64_t rows = 12;    // windows a batch
  std::int64_t length = 48;  // tokens a window
  std::uint64_t seed = 1;
};

class TextStream {
 public:
  /// Throws Error if the text is too short for a batch, or an option is not positive.
  TextStream(std::vector<std::int32_t> text, const TextStreamOptions& options);

  TokenBatch next();
  BatchCursor cursor() const { return cursor_; }
  /// Goes to where a stream with equal text and options stood. Throws Error for a place that does not exist.
  void seek(const BatchCursor& cursor);
  /// Moves on by so many batches, as next() would. Throws Error for a negative number.
  void skip(std::int64_t batches);
  const TextStreamOptions& options() const { return options_; }
  /// The same in every epoch; windows that do not fill a batch are left out of that epoch.
  std::int64_t batches_in_epoch() const { return batches_; }

 private:
  void enter_epoch(std::int64_t epoch);

  std::vector<std::int32_t> text_;
  TextStreamOptions options_;
  BatchCursor cursor_;
  std::int64_t batches_ = 0;
  std::vector<std::int64_t> starts_;  // of the epoch cursor_.epoch: where each window begins, in order
};

}  // namespace attune::train
