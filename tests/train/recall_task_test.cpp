// The recall task: every question can be answered from its sequence, and a small model learns to.
#include "attune/train/recall_task.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "attune/base/error.hpp"
#include "attune/train/checkpoint.hpp"
#include "attune/train/run.hpp"
#include "temporary_folder.hpp"

namespace attune::train {
namespace {

using attune::testing::TemporaryFolder;

RunConfig recall_config(int steps) {
  return parse_config(
      "task = \"recall\"\nseed = 3\n[data]\npairs = 2\nkeys = 4\nquestions = 2\n[model]\nkind = \"gpt\"\nnum_layers = "
      "2\n"
      "model_dim = 16\nnum_heads = 1\nfeed_forward_dim = 32\ndropout = 0.0\ninit_deviation = 0.2\nactivation = "
      "\"gelu\"\n"
      "token_position = \"learned\"\n[train]\nbatch_tokens = 140\nlabel_smoothing = 0.0\nlog_every = 10\nsteps = " +
      std::to_string(steps) + "\n[optimizer]\nlearning_rate = 1e-2\n");
}

TEST(RecallTask, ASequenceHoldsItsAnswers) {
  const RecallOptions options{.pairs = 5, .keys = 7, .questions = 6, .rows = 100, .seed = 2};
  const TokenBatch batch = recall_batch(options, 3);
  EXPECT_EQ(batch.tokens.shape(), (Shape{100, 21}));
  EXPECT_EQ(batch.counted, 600);
  std::set<std::int32_t> keys, answers;
  for (std::int64_t first = 0; first < 2100; first += 21) {
    std::map<std::int32_t, std::int32_t> pairs;
    for (std::int64_t at = first; at < first + 10; at += 2) {
      const std::int32_t key = batch.tokens[at], value = batch.tokens[at + 1];
      EXPECT_TRUE(key >= 0 && key < 7 && value >= 7 && value < 14);
      EXPECT_TRUE(pairs.emplace(key, value).second) << "no key twice";
      EXPECT_TRUE(batch.targets[at] == kNoTarget && batch.targets[at + 1] == kNoTarget);
    }
    std::set<std::int32_t> asked;
    for (std::int64_t at = first + 10; at < first + 21; at += 2) {
      EXPECT_EQ(pairs.at(batch.tokens[at]), batch.targets[at]);
      if (at < first + 20) {
        EXPECT_TRUE(asked.insert(batch.tokens[at]).second || asked.size() == 5) << "each once before one is twice";
        EXPECT_EQ(batch.tokens[at + 1], batch.targets[at]) << "the answer is told";
        EXPECT_EQ(batch.targets[at + 1], kNoTarget);
      }
      answers.insert(batch.targets[at]);
      keys.insert(batch.tokens[at]);
    }
    EXPECT_EQ(asked.size(), 5u);
  }
  EXPECT_EQ(keys.size(), 7u) << "every key is asked for";
  EXPECT_EQ(answers.size(), 7u);

  const auto differ = [](const TokenBatch& a, const TokenBatch& b) {
    int count = 0;
    for (std::int64_t i = 0; i < a.tokens.size(); ++i) count += a.tokens[i] != b.tokens[i];
    return count;
  };
  EXPECT_EQ(differ(batch, recall_batch(options, 3)), 0) << "a function of seed and number";
  EXPECT_GT(differ(batch, recall_batch(options, 4)), 0);
  EXPECT_GT(differ(batch, recall_batch(options, 3, true)), 0);
  EXPECT_THROW(recall_batch({.pairs = 8, .keys = 7}, 0), Error);
  EXPECT_THROW(recall_batch(options, -1), Error);
}

TEST(RecallTask, AttentionLearnsIt) {
  const TemporaryFolder out;
  const RunResult result = start_run(recall_config(500), out / "run", "unused");
  const RecallScore score = score_recall(out / "run", 512);
  EXPECT_GE(score.questions, 512);
  EXPECT_GT(score.accuracy, 0.75) << "guessing one of the two values is right in 5 of 8 cases";
  EXPECT_LT(score.loss, 0.4) << "and costs .75 ln 2 = 0.52 nats";
  EXPECT_NEAR(score.loss, result.valid_loss, 0.2);
}

TEST(RecallTask, ResumedAndSkippedDataIsTheSame) {
  const TemporaryFolder out;
  start_run(recall_config(12), out / "whole", "unused");
  int left = 5;
  start_run(recall_config(12), out / "stopped", "unused", {.stop = [&] { return left-- <= 0; }});
  resume_run(out / "stopped", "unused");
  const Checkpoint a = load_checkpoint(out / "whole" / "checkpoint"),
                   b = load_checkpoint(out / "stopped" / "checkpoint");
  EXPECT_EQ(a.data, (BatchCursor{0, 12}));
  EXPECT_EQ(a.data, b.data);
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    EXPECT_EQ(a.weights[i].tensor.to_vector(), b.weights[i].tensor.to_vector()) << a.weights[i].name;

  const std::unique_ptr<Learner> learner = make_learner(recall_config(1), {.files = RunFiles(out / "run")});
  learner->skip(3);
  EXPECT_EQ(learner->cursor(), (BatchCursor{0, 3}));
  EXPECT_THROW(learner->seek({1, 0}), Error);
  EXPECT_THROW(learner->skip(-1), Error);
  EXPECT_EQ(learner->tokens_a_batch(), 140);
  EXPECT_EQ(learner->facts().count("vocab_size"), 8);
}

}  // namespace
}  // namespace attune::train
