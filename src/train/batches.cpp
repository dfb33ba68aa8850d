#include "attune/train/batches.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"

namespace attune::train {
namespace {

/// Random streams of this file lie apart from all others: its number in the upper half, the epoch in the lower.
constexpr std::uint64_t kStream = std::uint64_t(0x62617463) << 32;
constexpr std::int64_t kLengthStep = 4;     // tokens; pairs within a step count as equally long
constexpr std::int64_t kEncodeGrain = 256;  // pairs a task

std::int64_t longest_side(const TokenPair& pair) {
  return std::int64_t(std::max(pair.source.size(), pair.target.size()));
}

/// Cuts an order into batches: the longest side times the number of pairs stays within batch_tokens.
std::vector<std::vector<std::int64_t>> cut(std::span<const TokenPair> pairs, std::span<const std::int64_t> order,
                                           std::int64_t batch_tokens) {
  std::vector<std::vector<std::int64_t>> batches;
  std::int64_t longest = 0;
  for (const std::int64_t index : order) {
    const std::int64_t length = longest_side(pairs[std::size_t(index)]);
    const bool fits =
        !batches.empty() && std::max(longest, length) * std::int64_t(batches.back().size() + 1) <= batch_tokens;
    if (!fits) {
      batches.emplace_back();
      longest = 0;
    }
    batches.back().push_back(index);
    longest = std::max(longest, length);
  }
  return batches;
}

}  // namespace

std::vector<TokenPair> encode_pairs(const Tokenizer& tokenizer, std::span<const SentencePair> pairs) {
  std::vector<TokenPair> encoded(pairs.size());
  parallel_ranges(std::int64_t(pairs.size()), kEncodeGrain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = std::size_t(begin); i < std::size_t(end); ++i) {
      TokenPair& pair = encoded[i];
      pair.source = tokenizer.encode(pairs[i].source);
      pair.source.push_back(kEndId);
      const std::vector<std::int32_t> target = tokenizer.encode(pairs[i].target);
      pair.target.reserve(target.size() + 2);
      pair.target.push_back(kBeginId);
      pair.target.insert(pair.target.end(), target.begin(), target.end());
      pair.target.push_back(kEndId);
    }
  });
  return encoded;
}

Batch make_batch(std::span<const TokenPair> pairs, std::span<const std::int64_t> which) {
  Batch batch;
  batch.num_pairs = std::int64_t(which.size());
  batch.pairs.assign(which.begin(), which.end());
  for (const std::int64_t index : which) {
    if (index < 0 || index >= std::int64_t(pairs.size()))
      fail("make_batch", fmt::format("indices of 0 to {}", std::int64_t(pairs.size()) - 1), fmt::format("{}", index));
    const TokenPair& pair = pairs[std::size_t(index)];
    if (pair.source.empty() || pair.target.size() < 2)
      fail("make_batch", "a source with its end and a target with begin and end",
           fmt::format("pair {} has {} and {} tokens", index, pair.source.size(), pair.target.size()));
    batch.source_lengths.push_back(std::int32_t(pair.source.size()));
    batch.target_lengths.push_back(std::int32_t(pair.target.size()) - 1);
    batch.source_length = std::max(batch.source_length, std::int64_t(pair.source.size()));
    batch.target_length = std::max(batch.target_length, std::int64_t(pair.target.size()) - 1);
    batch.num_tokens += std::int64_t(pair.source.size() + pair.target.size());
  }
  batch.source.assign(std::size_t(batch.num_pairs * batch.source_length), kPaddingId);
  batch.target_in.assign(std::size_t(batch.num_pairs * batch.target_length), kPaddingId);
  batch.target_out.assign(std::size_t(batch.num_pairs * batch.target_length), kPaddingId);
  for (std::int64_t row = 0; row < batch.num_pairs; ++row) {
    const TokenPair& pair = pairs[std::size_t(which[std::size_t(row)])];
    std::copy(pair.source.begin(), pair.source.end(), batch.source.begin() + row * batch.source_length);
    std::copy(pair.target.begin(), pair.target.end() - 1, batch.target_in.begin() + row * batch.target_length);
    std::copy(pair.target.begin() + 1, pair.target.end(), batch.target_out.begin() + row * batch.target_length);
  }
  return batch;
}

std::vector<std::vector<std::int64_t>> plan_epoch(std::span<const TokenPair> pairs, const BatchOptions& options,
                                                  std::int64_t epoch) {
  if (options.batch_tokens < 1 || options.max_tokens < 1 || epoch < 0)
    fail("plan_epoch", "positive batch_tokens and max_tokens, an epoch from 0 up",
         fmt::format("{}, {} and {}", options.batch_tokens, options.max_tokens, epoch));
  std::vector<std::int64_t> order;
  for (std::size_t i = 0; i < pairs.size(); ++i)
    if (longest_side(pairs[i]) < options.max_tokens) order.push_back(std::int64_t(i));
  Generator generator(options.seed, kStream + std::uint64_t(epoch));
  generator.shuffle(order);
  const auto key = [&](std::int64_t index) {
    const TokenPair& pair = pairs[std::size_t(index)];
    return std::make_tuple(std::int64_t(pair.target.size()) / kLengthStep,
                           std::int64_t(pair.source.size()) / kLengthStep);
  };
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return key(a) < key(b); });
  std::vector<std::vector<std::int64_t>> batches = cut(pairs, order, options.batch_tokens);
  generator.shuffle(batches);
  return batches;
}

std::vector<std::vector<std::int64_t>> plan_in_order_of_length(std::span<const TokenPair> pairs,
                                                               std::int64_t batch_tokens) {
  if (batch_tokens < 1) fail("plan_in_order_of_length", "positive batch_tokens", fmt::format("{}", batch_tokens));
  std::vector<std::int64_t> order(pairs.size());
  std::iota(order.begin(), order.end(), std::int64_t(0));
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return pairs[std::size_t(a)].source.size() < pairs[std::size_t(b)].source.size();
  });
  return cut(pairs, order, batch_tokens);
}

BatchStream::BatchStream(std::vector<TokenPair> pairs, const BatchOptions& options)
    : pairs_(std::move(pairs)), options_(options) {
  enter_epoch(0);
  if (plan_.empty())
    fail("BatchStream", fmt::format("pairs of fewer than {} tokens a side", options.max_tokens),
         fmt::format("none among {}", pairs_.size()));
}

void BatchStream::enter_epoch(std::int64_t epoch) {
  plan_ = plan_epoch(pairs_, options_, epoch);
  cursor_ = {.epoch = epoch, .batch = 0};
}

Batch BatchStream::next() {
  Batch batch = make_batch(pairs_, plan_[std::size_t(cursor_.batch)]);
  if (++cursor_.batch == std::int64_t(plan_.size())) enter_epoch(cursor_.epoch + 1);
  return batch;
}

void BatchStream::seek(const BatchCursor& cursor) {
  std::vector<std::vector<std::int64_t>> plan = plan_epoch(pairs_, options_, cursor.epoch);
  if (cursor.batch < 0 || cursor.batch >= std::int64_t(plan.size()))
    fail("BatchStream::seek", fmt::format("a batch of 0 to {} in epoch {}", plan.size() - 1, cursor.epoch),
         fmt::format("{}", cursor.batch));
  plan_ = std::move(plan);
  cursor_ = cursor;
}

void BatchStream::skip(std::int64_t batches) {
  if (batches < 0) fail("BatchStream::skip", "a number of 0 or more", fmt::format("{}", batches));
  while (batches > 0) {
    const std::int64_t rest = std::int64_t(plan_.size()) - cursor_.batch;
    if (batches < rest) {
      cursor_.batch += batches;
      return;
    }
    batches -= rest;
    enter_epoch(cursor_.epoch + 1);
  }
}

}  // namespace attune::train
