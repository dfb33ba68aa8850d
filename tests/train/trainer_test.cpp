// The update: accumulated micro-batches are one large batch.
#include "attune/train/trainer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>

#include "attune/base/error.hpp"
#include "attune/optim/schedule_free.hpp"
#include "attune/optim/sgd.hpp"
#include "attune/train/translate_learner.hpp"

namespace attune::train {
namespace {

std::vector<TokenPair> pairs() {
  Generator generator(5);
  std::vector<TokenPair> all;
  for (int i = 0; i < 40; ++i) {
    TokenPair pair;
    pair.target.push_back(kBeginId);
    const int length = 2 + int(generator.below(9));
    for (int t = 0; t < length; ++t) {
      pair.source.push_back(4 + std::int32_t(generator.below(12)));
      pair.target.push_back(4 + std::int32_t(generator.below(12)));
    }
    pair.source.push_back(kEndId);
    pair.target.push_back(kEndId);
    all.push_back(pair);
  }
  return all;
}

/// A model, a stream and plain gradient descent at rate 0: gradients can be looked at, weights stay.
struct Still {
  TranslateLearner learner;
  optim::Sgd optimizer;
  Trainer trainer;
  explicit Still(const TrainerOptions& options, const LossTerms& terms = {})
      : learner(model(), BatchStream(pairs(), {.batch_tokens = 40, .seed = 2}), {}, {.loss = terms}),
        optimizer(learner.model().parameters(), {.learning_rate = 0}),
        trainer(learner, optimizer, options) {}
  static std::shared_ptr<models::Seq2SeqTransformer> model() {
    set_seed(1);
    return std::make_shared<models::Seq2SeqTransformer>(models::Seq2SeqOptions{.source_vocab_size = 16,
                                                                               .num_encoder_layers = 1,
                                                                               .num_decoder_layers = 1,
                                                                               .model_dim = 16,
                                                                               .num_heads = 2,
                                                                               .dropout = 0});
  }
  std::vector<double> gradient() {
    std::vector<double> all;
    for (const Tensor& p : learner.model().parameters()) {
      const std::vector<double> g = p.grad().to_vector();
      all.insert(all.end(), g.begin(), g.end());
    }
    return all;
  }
};

TEST(Trainer, AccumulatedBatchesAreOneLargeBatch) {
  Still one({}, {.label_smoothing = 0.1}), three({.accumulate = 3}, {.label_smoothing = 0.1});
  double loss = 0, tokens = 0;
  std::vector<double> gradient;
  for (int i = 0; i < 3; ++i) {
    const UpdateReport report = one.trainer.update();
    const double n = double(report.target_tokens);
    const std::vector<double> g = one.gradient();
    gradient.resize(g.size());
    for (std::size_t j = 0; j < g.size(); ++j) gradient[j] += n * g[j];
    loss += n * report.loss;
    tokens += n;
  }
  const UpdateReport report = three.trainer.update();
  EXPECT_EQ(double(report.target_tokens), tokens);
  EXPECT_NEAR(report.loss, loss / tokens, 1e-6);
  const std::vector<double> g = three.gradient();
  ASSERT_EQ(g.size(), gradient.size());
  for (std::size_t j = 0; j < g.size(); ++j) EXPECT_NEAR(g[j], gradient[j] / tokens, 1e-6);
  EXPECT_EQ(one.learner.cursor(), three.learner.cursor());
  EXPECT_EQ(three.optimizer.step(), 1);
}

TEST(Trainer, AttentionIsSummarizedOnRequest) {
  Still still({});
  EXPECT_EQ(still.trainer.update(false).attention.entropy, 0);
  const AttentionSummary seen = still.trainer.update(true).attention;
  EXPECT_GT(seen.entropy, 0.5) << "a fresh model looks everywhere";
  EXPECT_LE(seen.entropy, 1);
  EXPECT_LE(seen.smallest_entropy, seen.entropy);
  EXPECT_TRUE(std::isfinite(seen.largest_logit));
  EXPECT_NE(seen.largest_logit, 0);
}

TEST(Trainer, EveryAttentionModuleIsNamed) {
  Still still({.accumulate = 2});
  const UpdateReport report = still.trainer.update(true);
  ASSERT_EQ(report.sites.size(), 2u * 3u) << "two micro-batches; encoder, decoder and cross attention";
  for (const SiteStatistics& site : report.sites) {
    EXPECT_EQ(site.statistics.num_heads, 2);
    bool known = false;
    for (const nn::NamedTensor& p : still.learner.model().named_parameters())
      known |= p.name == site.name + ".weight_in";
    EXPECT_TRUE(known) << site.name;
  }
  EXPECT_EQ(report.sites[0].name, report.sites[3].name);
  EXPECT_TRUE(still.trainer.update().sites.empty());
}

TEST(Trainer, BetweenTheHalvesTheUpdateCanBeScaled) {
  Still whole({}), halves({});
  EXPECT_TRUE(whole.trainer.update().applied);
  UpdateReport report = halves.trainer.propose();
  EXPECT_TRUE(report.staged);
  EXPECT_FALSE(report.applied);
  EXPECT_EQ(halves.optimizer.step(), 0);
  EXPECT_GT(report.gradient_norm, 0);
  halves.trainer.apply(report);
  EXPECT_TRUE(report.applied);
  EXPECT_EQ(halves.optimizer.step(), 1);

  // At a rate of its own, and with one matrix held still.
  const std::vector<double> first = halves.learner.model().parameters()[1].to_vector();
  const std::vector<double> second = halves.learner.model().parameters()[2].to_vector();
  report = halves.trainer.propose(false, 0.5);
  EXPECT_EQ(report.learning_rate, 0.5);
  const std::size_t still = halves.optimizer.index_of(halves.learner.model().parameters()[1]);
  halves.optimizer.scale_update(still, 0, halves.learner.model().parameters()[1].shape()[0], 0);
  halves.trainer.apply(report);
  EXPECT_EQ(halves.learner.model().parameters()[1].to_vector(), first);
  EXPECT_NE(halves.learner.model().parameters()[2].to_vector(), second);
}

TEST(Learner, SkippedDataIsDataThatWasDrawn) {
  Still drawn({}), skipped({});
  for (const int n : {1, 3, 40}) {
    for (int i = 0; i < n; ++i) drawn.learner.draw();
    skipped.learner.skip(n);
    EXPECT_EQ(drawn.learner.cursor(), skipped.learner.cursor()) << n;
  }
  EXPECT_GT(drawn.learner.cursor().epoch, 0) << "an epoch's end was on the way";
  EXPECT_EQ(drawn.trainer.update().loss, skipped.trainer.update().loss);
  EXPECT_THROW(drawn.learner.skip(-1), Error);
  const MicroBatch foreign;
  EXPECT_THROW(drawn.learner.loss(foreign, nullptr), Error);
}

TEST(Trainer, OutputIsAddedUpOnRequest) {
  Still still({.accumulate = 2});
  EXPECT_EQ(still.trainer.update().output.tokens, 0);
  const UpdateReport report = still.trainer.update({.output = true});
  EXPECT_EQ(report.output.tokens, report.target_tokens);
  EXPECT_NEAR(report.output.lse(), std::log(16), 1.5) << "of 16 logits around 0";
  EXPECT_TRUE(report.sites.empty());
  // Two rows by hand, one of which does not count.
  Tensor logits = Tensor::empty({2, 2});
  for (int i = 0; i < 4; ++i) logits.data<float>()[i] = std::array<float, 4>{0, 1, 5, 7}[std::size_t(i)];
  OutputStatistics output;
  add_output(logits, Ids({1, -1}, {2}), -1, output);
  EXPECT_EQ(output.tokens, 1);
  EXPECT_NEAR(output.lse(), std::log(1 + std::exp(1.0)), 1e-6);
  EXPECT_THROW(add_output(logits, Ids({1, 2}, {2}), -1, output), Error) << "no such class";
  EXPECT_THROW(add_output(logits, Ids({1}, {1}), -1, output), Error) << "one target a row";
}

TEST(Trainer, EvaluatesWithTheWeightsThatAreForIt) {
  Still still({});
  still.learner.seek({});
  optim::ScheduleFree optimizer(still.learner.model().parameters(), {.learning_rate = 1e-2});
  Trainer trainer(still.learner, optimizer);
  trainer.update();
  try {
    trainer.validation_loss();
    ADD_FAILURE() << "the weights that are trained are none to evaluate with";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("Trainer::validation_loss: ", 0), 0u) << error.what();
  }
  {
    const EvaluationWeights weights(optimizer);
    EXPECT_TRUE(optimizer.evaluating());
    optimizer.require_eval("Trainer::validation_loss");
  }
  EXPECT_FALSE(optimizer.evaluating());
  EXPECT_TRUE(trainer.update().applied);
}

TEST(Trainer, ARefusedLossHasNoGradientNorm) {
  Still still({});
  EXPECT_GT(still.trainer.update().gradient_norm, 0);
  Tensor table = still.learner.model().parameters()[0];
  for (std::int64_t row = 0; row < 16; ++row) table.data<float>()[row * 16] = std::numeric_limits<float>::infinity();
  const UpdateReport refused = still.trainer.update();
  EXPECT_FALSE(refused.applied);
  EXPECT_TRUE(std::isnan(refused.gradient_norm)) << "not that of the update before";
}

TEST(Trainer, RefusesWhatIsNotFinite) {
  Still still({.most_refused = 2});
  Tensor table = still.learner.model().parameters()[0];  // [16, 16] embeddings: every token has one that is not finite
  for (std::int64_t row = 0; row < 16; ++row) table.data<float>()[row * 16] = std::numeric_limits<float>::infinity();
  const std::vector<double> before = still.learner.model().parameters()[1].to_vector();
  EXPECT_FALSE(still.trainer.update(true).applied);
  EXPECT_EQ(still.optimizer.step(), 0);
  EXPECT_EQ(still.learner.model().parameters()[1].to_vector(), before);
  EXPECT_THROW(still.trainer.update(), Error);
  EXPECT_THROW(Still({.accumulate = 0}), Error);
  EXPECT_THROW(Still({}, {.label_smoothing = 1}), Error);
}

}  // namespace
}  // namespace attune::train
