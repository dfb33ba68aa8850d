// Batches: each pair once an epoch, within the limit, little padding, and the same after a resume.
#include "attune/train/batches.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune::train {
namespace {

/// Pairs of 1 to `longest` pieces a side, targets about as long as sources; every token names its pair.
std::vector<TokenPair> invented_pairs(std::int64_t count, std::uint64_t longest = 60) {
  Generator generator(3);
  std::vector<TokenPair> pairs;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t n = 1 + generator.below(longest), m = std::max<std::uint64_t>(1, n + generator.below(7) - 3);
    TokenPair pair;
    pair.source.assign(n, std::int32_t(10 + i));
    pair.source.push_back(kEndId);
    pair.target.push_back(kBeginId);
    pair.target.insert(pair.target.end(), std::min<std::uint64_t>(m, longest), std::int32_t(10 + i));
    pair.target.push_back(kEndId);
    pairs.push_back(pair);
  }
  return pairs;
}

TEST(Batches, OneBatchByHand) {
  const std::vector<TokenPair> pairs{{{5, 3}, {2, 6, 7, 3}}, {{9, 9, 9, 3}, {2, 8, 3}}};
  const Batch batch = make_batch(pairs, std::vector<std::int64_t>{1, 0});
  EXPECT_EQ(batch.num_pairs, 2);
  EXPECT_EQ(batch.source_length, 4);
  EXPECT_EQ(batch.target_length, 3);
  EXPECT_EQ(batch.source, (std::vector<std::int32_t>{9, 9, 9, 3, 5, 3, 0, 0}));
  EXPECT_EQ(batch.target_in, (std::vector<std::int32_t>{2, 8, 0, 2, 6, 7}));
  EXPECT_EQ(batch.target_out, (std::vector<std::int32_t>{8, 3, 0, 6, 7, 3}));
  EXPECT_EQ(batch.source_lengths, (std::vector<std::int32_t>{4, 2}));
  EXPECT_EQ(batch.target_lengths, (std::vector<std::int32_t>{2, 3}));
  EXPECT_EQ(batch.pairs, (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(batch.num_tokens, 13);
  EXPECT_THROW(make_batch(pairs, std::vector<std::int64_t>{2}), Error);
  EXPECT_THROW(make_batch(std::vector<TokenPair>{{{}, {2, 3}}}, std::vector<std::int64_t>{0}), Error);
}

TEST(Batches, AnEpochTakesEachShortPairOnceWithinTheLimit) {
  const std::vector<TokenPair> pairs = invented_pairs(2000);
  const BatchOptions options{.batch_tokens = 512, .max_tokens = 50, .seed = 4};
  std::vector<std::int64_t> seen;
  std::int64_t padded = 0, tokens = 0;
  for (const std::vector<std::int64_t>& plan : plan_epoch(pairs, options, 0)) {
    const Batch batch = make_batch(pairs, plan);
    const std::int64_t longest = std::max(batch.source_length, batch.target_length + 1);
    EXPECT_LE(longest * batch.num_pairs, 512);
    EXPECT_LT(longest, 50);
    seen.insert(seen.end(), plan.begin(), plan.end());
    tokens += batch.num_tokens;
    padded += batch.num_pairs * (batch.source_length + batch.target_length + 1);
  }
  EXPECT_GT(double(tokens) / double(padded), 0.9);
  std::vector<std::int64_t> expected;
  for (std::size_t i = 0; i < pairs.size(); ++i)
    if (pairs[i].source.size() < 50 && pairs[i].target.size() < 50) expected.push_back(std::int64_t(i));
  EXPECT_LT(expected.size(), pairs.size());
  EXPECT_FALSE(std::is_sorted(seen.begin(), seen.end()));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, expected);
}

TEST(Batches, APairLongerThanTheLimitComesAlone) {
  const std::vector<TokenPair> pairs = invented_pairs(50);
  for (const auto& plan : plan_epoch(pairs, {.batch_tokens = 1}, 0)) EXPECT_EQ(plan.size(), 1u);
}

TEST(Batches, PlansDependOnSeedAndEpochAlone) {
  const std::vector<TokenPair> pairs = invented_pairs(500);
  const BatchOptions options{.batch_tokens = 256, .seed = 4};
  EXPECT_EQ(plan_epoch(pairs, options, 3), plan_epoch(pairs, options, 3));
  EXPECT_NE(plan_epoch(pairs, options, 3), plan_epoch(pairs, options, 4));
  EXPECT_NE(plan_epoch(pairs, options, 3), plan_epoch(pairs, {.batch_tokens = 256, .seed = 5}, 3));
}

TEST(Batches, AStreamResumesWhereItStood) {
  const std::vector<TokenPair> pairs = invented_pairs(300);
  const BatchOptions options{.batch_tokens = 512, .seed = 9};
  BatchStream whole(pairs, options);
  const std::int64_t steps = whole.batches_in_epoch() * 2 + 3;
  for (std::int64_t stop = 0; stop < steps; stop += 7) {
    BatchStream first(pairs, options), second(pairs, options);
    for (std::int64_t i = 0; i < stop; ++i) first.next();
    second.seek(first.cursor());
    for (int i = 0; i < 5; ++i) {
      const Batch a = first.next(), b = second.next();
      ASSERT_EQ(a.source, b.source);
      ASSERT_EQ(a.target_out, b.target_out);
    }
    EXPECT_EQ(first.cursor(), second.cursor());
  }
  for (std::int64_t i = whole.batches_in_epoch(); i > 0; --i) whole.next();
  EXPECT_EQ(whole.cursor(), (BatchCursor{.epoch = 1, .batch = 0}));
  EXPECT_THROW(whole.seek({.epoch = 0, .batch = 100'000}), Error);
  EXPECT_THROW(whole.seek({.epoch = -1, .batch = 0}), Error);
  EXPECT_EQ(whole.cursor(), (BatchCursor{.epoch = 1, .batch = 0}));
}

TEST(Batches, InOrderOfLengthNothingIsLeftOut) {
  const std::vector<TokenPair> pairs = invented_pairs(400, 200);
  std::vector<std::int64_t> seen;
  for (const auto& plan : plan_in_order_of_length(pairs, 300)) seen.insert(seen.end(), plan.begin(), plan.end());
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end(), [&](std::int64_t a, std::int64_t b) {
    return pairs[std::size_t(a)].source.size() < pairs[std::size_t(b)].source.size();
  }));
  std::sort(seen.begin(), seen.end());
  std::vector<std::int64_t> all(400);
  std::iota(all.begin(), all.end(), std::int64_t(0));
  EXPECT_EQ(seen, all);
  EXPECT_TRUE(plan_in_order_of_length({}, 300).empty());
}

TEST(Batches, BadOptions) {
  const std::vector<TokenPair> pairs = invented_pairs(5);
  EXPECT_THROW(BatchStream({}, {}), Error);
  EXPECT_THROW(BatchStream(pairs, {.max_tokens = 1}), Error);
  EXPECT_THROW(BatchStream(pairs, {.batch_tokens = 0}), Error);
  EXPECT_THROW(plan_in_order_of_length(pairs, 0), Error);
}

TEST(Batches, EncodedPairsHaveBeginAndEnd) {
  std::vector<std::string> text;
  for (int i = 0; i < 50; ++i) text.push_back("water the garden bed number " + std::to_string(i));
  const Tokenizer tokenizer = Tokenizer::train(text, {.vocab_size = 40});
  std::vector<SentencePair> sentences;
  for (const std::string& line : text) sentences.push_back({line, "the bed"});
  const std::vector<TokenPair> pairs = encode_pairs(tokenizer, sentences);
  ASSERT_EQ(pairs.size(), sentences.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_EQ(pairs[i].source.back(), kEndId);
    EXPECT_EQ(pairs[i].target.front(), kBeginId);
    EXPECT_EQ(pairs[i].target.back(), kEndId);
    EXPECT_EQ(tokenizer.decode(pairs[i].source), sentences[i].source);
    EXPECT_EQ(tokenizer.decode(pairs[i].target), sentences[i].target);
  }
}

}  // namespace
}  // namespace attune::train
