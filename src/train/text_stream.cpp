// Windows of a text, shuffled.
#include "attune/train/text_stream.hpp"

#include <fmt/format.h>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune::train {
namespace {

/// Random streams of this file lie apart from all others: its number in the upper half, the epoch in the lower.
constexpr std::uint64_t kTextStream = std::uint64_t(0x74657874) << 32;

}  // namespace

TextStream::TextStream(std::vector<std::int32_t> text, const TextStreamOptions& options)
    : text_(std::move(text)), options_(options) {
  if (options.rows < 1 || options.length < 1)
    fail("TextStream", "positive rows and length", fmt::format("{} and {}", options.rows, options.length));
  // A window needs one token more, its last target; the beginning may lie `length` tokens in.
  const std::int64_t windows = (std::int64_t(text_.size()) - options.length) / options.length;
  batches_ = windows / options.rows;
  if (batches_ < 1)
    fail("TextStream", fmt::format("a text of {} windows of {} tokens, and one more", options.rows, options.length),
         fmt::format("{} tokens", text_.size()));
  enter_epoch(0);
}

void TextStream::enter_epoch(std::int64_t epoch) {
  Generator generator(options_.seed, kTextStream + std::uint64_t(epoch));
  const auto first = std::int64_t(generator.below(std::uint64_t(options_.length)));
  starts_.clear();
  for (std::int64_t at = first; at + options_.length + 1 <= std::int64_t(text_.size()); at += options_.length)
    starts_.push_back(at);
  generator.shuffle(starts_);
  cursor_ = {.epoch = epoch, .batch = 0};
}

TokenBatch TextStream::next() {
  std::vector<std::int32_t> tokens, targets;
  for (std::int64_t row = 0; row < options_.rows; ++row) {
    const auto at = text_.begin() + starts_[std::size_t(cursor_.batch * options_.rows + row)];
    tokens.insert(tokens.end(), at, at + options_.length);
    targets.insert(targets.end(), at + 1, at + 1 + options_.length);
  }
  if (++cursor_.batch == batches_) enter_epoch(cursor_.epoch + 1);
  const Shape shape{options_.rows, options_.length};
  return {Ids(std::move(tokens), shape), Ids(std::move(targets), shape), shape.size()};
}

void TextStream::seek(const BatchCursor& cursor) {
  if (cursor.epoch < 0 || cursor.batch < 0 || cursor.batch >= batches_)
    fail("TextStream::seek", fmt::format("a batch of 0 to {} in an epoch from 0 up", batches_ - 1),
         fmt::format("batch {} of epoch {}", cursor.batch, cursor.epoch));
  enter_epoch(cursor.epoch);
  cursor_.batch = cursor.batch;
}

void TextStream::skip(std::int64_t batches) {
  if (batches < 0) fail("TextStream::skip", "a number of 0 or more", fmt::format("{}", batches));
  const std::int64_t to = cursor_.batch + batches, epoch = cursor_.epoch + to / batches_;
  seek({.epoch = epoch, .batch = to % batches_});
}

}  // namespace attune::train
