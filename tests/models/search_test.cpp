// Greedy and beam search on a small language whose best sentence can be found by trying them all.
#include "attune/models/search.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "attune/base/error.hpp"
#include "attune/base/rng.hpp"

namespace attune::models::search_tests {
namespace {

constexpr std::int32_t kBegin = 0, kEnd = 1;
constexpr std::int64_t kVocab = 5;

/// Logits that depend on everything a row has written, so that a row mistaken for another one shows.
std::vector<float> toy_logits(const std::vector<std::int32_t>& written, std::uint64_t seed) {
  std::uint64_t stream = 17;
  for (const std::int32_t id : written) stream = stream * 1000003 + std::uint64_t(id) + 1;
  Generator generator(seed, stream);
  std::vector<float> logits;
  for (std::int64_t i = 0; i < kVocab; ++i) logits.push_back(float(1.5 * generator.normal()));
  logits[kBegin] = -std::numeric_limits<float>::infinity();  // begin is never written again
  return logits;
}

double log_prob_of(const std::vector<float>& logits, std::int32_t token) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(double(x));
  return double(logits[std::size_t(token)]) - std::log(sum);
}

class ToyDecoder : public StepDecoder {
 public:
  ToyDecoder(std::vector<std::uint64_t> seeds) : seeds_(std::move(seeds)), written_(seeds_.size()) {}
  Tensor step(std::span<const std::int32_t> tokens) override {
    EXPECT_EQ(tokens.size(), seeds_.size());
    std::vector<float> all;
    for (std::size_t r = 0; r < tokens.size(); ++r) {
      written_[r].push_back(tokens[r]);
      const std::vector<float> logits = toy_logits(written_[r], seeds_[r]);
      all.insert(all.end(), logits.begin(), logits.end());
    }
    rows_stepped += std::int64_t(tokens.size());
    return Tensor::from(all, {std::int64_t(tokens.size()), kVocab});
  }
  void reorder(std::span<const std::int64_t> rows) override {
    std::vector<std::uint64_t> seeds;
    std::vector<std::vector<std::int32_t>> written;
    for (const std::int64_t r : rows) {
      seeds.push_back(seeds_.at(std::size_t(r)));
      written.push_back(written_.at(std::size_t(r)));
    }
    seeds_ = std::move(seeds);
    written_ = std::move(written);
  }
  std::int64_t rows_stepped = 0;

 private:
  std::vector<std::uint64_t> seeds_;
  std::vector<std::vector<std::int32_t>> written_;
};

double penalty(std::size_t length, double alpha) { return std::pow((5.0 + double(length)) / 6.0, alpha); }

/// The best finished sentence of at most max_length ids, by trying all of them.
void exhaustive(std::vector<std::int32_t>& written, double log_prob, std::uint64_t seed, std::size_t max_length,
                double alpha, Hypothesis& best) {
  const std::vector<float> logits = toy_logits(written, seed);
  for (std::int32_t token = 1; token < kVocab; ++token) {
    const double next = log_prob + log_prob_of(logits, token);
    if (token == kEnd) {
      const double score = next / penalty(written.size(), alpha);
      if (!best.finished || score > best.score) best = {{written.begin() + 1, written.end()}, next, score, true};
    } else if (written.size() <= max_length) {
      written.push_back(token);
      exhaustive(written, next, seed, max_length, alpha, best);
      written.pop_back();
    }
  }
}

TEST(Search, GreedyTakesTheLargestLogitEachTime) {
  const std::vector<std::int64_t> lengths(8, 6);
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t s = 0; s < 8; ++s) seeds.push_back(s);
  ToyDecoder decoder(seeds);
  const auto found = search(decoder, lengths, kBegin, kEnd);
  int finished = 0;
  for (std::uint64_t s = 0; s < 8; ++s) {
    std::vector<std::int32_t> written = {kBegin};
    double log_prob = 0;
    bool ended = false;
    while (!ended && written.size() <= 6) {
      const std::vector<float> logits = toy_logits(written, s);
      const auto token = std::int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
      log_prob += log_prob_of(logits, token);
      ended = token == kEnd;
      if (!ended) written.push_back(token);
    }
    const Hypothesis& h = found[s].at(0);
    EXPECT_EQ(found[s].size(), 1u);
    EXPECT_EQ(h.ids, std::vector<std::int32_t>(written.begin() + 1, written.end())) << "sentence " << s;
    EXPECT_EQ(h.finished, ended);
    EXPECT_NEAR(h.log_prob, log_prob, 1e-5);
    finished += h.finished;
  }
  EXPECT_GT(finished, 0);
  EXPECT_LT(decoder.rows_stepped, 8 * 6) << "sentences that have ended are still being written";
}

TEST(Search, AWideBeamFindsTheBestSentence) {
  for (const double alpha : {0.0, 1.0}) {
    std::vector<std::uint64_t> seeds;
    for (std::uint64_t s = 100; s < 110; ++s) seeds.push_back(s);
    const std::vector<std::int64_t> lengths(seeds.size(), 4);
    ToyDecoder decoder(seeds);
    // 3^4 sentences at most run at once, so nothing is ever pruned.
    const auto found = search(decoder, lengths, kBegin, kEnd, {.beam_size = 200, .length_penalty = alpha});
    for (std::size_t s = 0; s < seeds.size(); ++s) {
      std::vector<std::int32_t> written = {kBegin};
      Hypothesis best;
      exhaustive(written, 0, seeds[s], 4 - 1, alpha, best);
      EXPECT_EQ(found[s].at(0).ids, best.ids) << "sentence " << s << ", length penalty " << alpha;
      EXPECT_NEAR(found[s].at(0).score, best.score, 1e-5);
      for (std::size_t i = 1; i < found[s].size(); ++i)
        EXPECT_TRUE(found[s][i - 1].finished > found[s][i].finished || found[s][i - 1].score >= found[s][i].score);
    }
  }
}

TEST(Search, ABatchGivesWhatEachSentenceGivesAlone) {
  std::vector<std::uint64_t> seeds = {7, 8, 9, 10, 11};
  const std::vector<std::int64_t> lengths = {3, 12, 1, 6, 9};
  ToyDecoder together(seeds);
  const auto found = search(together, lengths, kBegin, kEnd, {.beam_size = 3});
  for (std::size_t s = 0; s < seeds.size(); ++s) {
    ToyDecoder alone({seeds[s]});
    const auto one = search(alone, std::span(&lengths[s], 1), kBegin, kEnd, {.beam_size = 3});
    ASSERT_EQ(one[0].size(), found[s].size());
    for (std::size_t i = 0; i < one[0].size(); ++i) {
      EXPECT_EQ(one[0][i].ids, found[s][i].ids);
      EXPECT_EQ(one[0][i].score, found[s][i].score);
      EXPECT_LE(std::int64_t(found[s][i].ids.size()), lengths[s]);
    }
  }
}

TEST(Search, RejectsWhatItCannotServe) {
  const std::vector<std::int64_t> lengths = {4}, none = {0};
  ToyDecoder decoder({1});
  EXPECT_THROW(search(decoder, lengths, kBegin, kEnd, {.beam_size = 0}), Error);
  EXPECT_THROW(search(decoder, lengths, kBegin, kEnd, {.length_penalty = -1}), Error);
  EXPECT_THROW(search(decoder, none, kBegin, kEnd), Error);
  EXPECT_THROW(search(decoder, lengths, kBegin, std::int32_t(kVocab)), Error);

  struct Broken : StepDecoder {
    Tensor step(std::span<const std::int32_t>) override {
      return Tensor::from({0, 1, std::numeric_limits<double>::quiet_NaN()}, {1, 3});
    }
    void reorder(std::span<const std::int64_t>) override {}
  } broken;
  EXPECT_THROW(search(broken, lengths, kBegin, kEnd), Error);
}

}  // namespace
}  // namespace attune::models::search_tests
