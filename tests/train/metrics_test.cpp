// BLEU and chrF against the scores of sacreBLEU that tools/make_metric_golden.py stored, and the translation memory.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "attune/train/bleu.hpp"
#include "attune/train/chrf.hpp"
#include "attune/train/translation_memory.hpp"

namespace attune::train {
namespace {

constexpr double kTolerance = 1e-6;  // points of 100

TEST(Metrics, EqualToSacrebleu) {
  const auto golden = nlohmann::json::parse(io::read_file(ATTUNE_SOURCE_DIR "/tests/golden/metrics.json"));
  ASSERT_GE(golden["sets"].size(), 18u);
  for (const auto& row : golden["sets"]) {
    SCOPED_TRACE(row["name"].get<std::string>());
    const auto hypotheses = row["hypotheses"].get<std::vector<std::string>>();
    const auto references = row["references"].get<std::vector<std::string>>();
    EXPECT_NEAR(corpus_chrf(hypotheses, references), row["chrf"].get<double>(), kTolerance);
    for (const BleuTokens tokens : {BleuTokens::mteval_13a, BleuTokens::chinese}) {
      const auto& expected = row[tokens == BleuTokens::chinese ? "bleu_zh" : "bleu_13a"];
      const BleuScore bleu = corpus_bleu(hypotheses, references, tokens);
      EXPECT_EQ(bleu.hypothesis_length, expected["hypothesis_length"].get<std::int64_t>());
      EXPECT_EQ(bleu.reference_length, expected["reference_length"].get<std::int64_t>());
      EXPECT_NEAR(bleu.score, expected["score"].get<double>(), kTolerance);
      EXPECT_NEAR(bleu.brevity_penalty, expected["brevity_penalty"].get<double>(), kTolerance);
      for (std::size_t n = 0; n < 4; ++n)
        EXPECT_NEAR(bleu.precisions[n], expected["precisions"][n].get<double>(), kTolerance) << "order " << n + 1;
    }
  }
}

TEST(Metrics, Tokens) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(bleu_tokens("Hello, world. 3.5-4 it's"), (Texts{"Hello", ",", "world", ".", "3.5", "-", "4", "it's"}));
  EXPECT_EQ(bleu_tokens("a&amp;b"), (Texts{"a", "&", "b"}));
  EXPECT_EQ(bleu_tokens("画3块。ok", BleuTokens::chinese), (Texts{"画", "3", "块", "。", "ok"}));
  EXPECT_TRUE(bleu_tokens("  ").empty());
}

TEST(Metrics, BadInput) {
  const std::vector<std::string> one{"a"}, two{"a", "b"}, none, bad{"\xff"};
  EXPECT_THROW(corpus_bleu(one, two), Error);
  EXPECT_THROW(corpus_bleu(none, none), Error);
  EXPECT_THROW(corpus_bleu(bad, one), Error);
  EXPECT_THROW(corpus_chrf(two, one), Error);
  EXPECT_THROW(corpus_chrf(none, none), Error);
  EXPECT_THROW(corpus_chrf(bad, one), Error);
}

TEST(TranslationMemory, FindsTheMostSimilarSource) {
  const std::vector<SentencePair> pairs{{"Open the door", "t0"},
                                        {"open the garden door", "t1"},
                                        {"Close the WINDOW", "t2"},
                                        {"close the window", "t3"},
                                        {"the the the", "t4"}};
  const TranslationMemory memory(pairs);
  EXPECT_EQ(memory.translate("open the garden DOOR"), "t1");
  EXPECT_EQ(memory.translate("close the window"), "t2");  // the first of two equals
  EXPECT_EQ(memory.find("close the window").dice, 1.0);
  EXPECT_EQ(memory.find("the").pair, 4);  // sets: one word of one
  EXPECT_DOUBLE_EQ(memory.find("open a door").dice, 2.0 * 2 / (3 + 3));
  EXPECT_EQ(memory.find("nothing known").pair, 0);
  EXPECT_EQ(memory.find("nothing known").dice, 0.0);
  EXPECT_EQ(memory.find("").dice, 0.0);
  const std::vector<std::string> sources{"open the garden door", "the"};
  EXPECT_EQ(memory.translate(sources), (std::vector<std::string>{"t1", "t4"}));
  EXPECT_THROW(TranslationMemory({}), Error);
}

/// Against the definition, word by word.
TEST(TranslationMemory, EqualToTheDefinition) {
  std::vector<SentencePair> pairs;
  for (int i = 0; i < 200; ++i) {
    std::string line;
    for (int bit = 0; bit < 8; ++bit)
      if ((i * 37 + 11) >> bit & 1) line += std::string(line.empty() ? "" : " ") + char('a' + bit);
    pairs.push_back({line, std::to_string(i)});
  }
  const TranslationMemory memory(pairs);
  for (int ask = 1; ask < 256; ask += 5) {
    std::string line;
    for (int bit = 0; bit < 8; ++bit)
      if (ask >> bit & 1) line += std::string(line.empty() ? "" : " ") + char('a' + bit);
    double best = 0;
    std::int64_t best_pair = 0;
    for (int i = 0; i < 200; ++i) {
      const int words = (i * 37 + 11) & 255;
      const int total = __builtin_popcount(unsigned(words)) + __builtin_popcount(unsigned(ask));
      const double dice = 2.0 * __builtin_popcount(unsigned(words & ask)) / total;
      if (dice > best) best = dice, best_pair = i;
    }
    EXPECT_EQ(memory.find(line).pair, best_pair) << line;
    EXPECT_DOUBLE_EQ(memory.find(line).dice, best) << line;
  }
}

}  // namespace
}  // namespace attune::train
