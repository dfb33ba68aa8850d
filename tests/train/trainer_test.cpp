// The update: accumulated micro-batches are one large batch.
#include "attune/train/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "attune/optim/sgd.hpp"

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
  models::Seq2SeqTransformer model;
  optim::Sgd optimizer;
  BatchStream stream;
  Trainer trainer;
  explicit Still(const TrainerOptions& options)
      : model(seeded({.source_vocab_size = 16,
                      .num_encoder_layers = 1,
                      .num_decoder_layers = 1,
                      .model_dim = 16,
                      .num_heads = 2,
                      .dropout = 0})),
        optimizer(model.parameters(), {.learning_rate = 0}),
        stream(pairs(), {.batch_tokens = 40, .seed = 2}),
        trainer(model, optimizer, stream, options) {}
  static models::Seq2SeqOptions seeded(const models::Seq2SeqOptions& options) {
    set_seed(1);
    return options;
  }
  std::vector<double> gradient() const {
    std::vector<double> all;
    for (const Tensor& p : model.parameters()) {
      const std::vector<double> g = p.grad().to_vector();
      all.insert(all.end(), g.begin(), g.end());
    }
    return all;
  }
};

TEST(Trainer, AccumulatedBatchesAreOneLargeBatch) {
  Still one({.label_smoothing = 0.1}), three({.label_smoothing = 0.1, .accumulate = 3});
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
  EXPECT_EQ(one.stream.cursor(), three.stream.cursor());
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

TEST(Trainer, RefusesWhatIsNotFinite) {
  Still still({.most_refused = 2});
  Tensor table = still.model.parameters()[0];  // [16, 16] embeddings: every token has one that is not finite
  for (std::int64_t row = 0; row < 16; ++row) table.data<float>()[row * 16] = std::numeric_limits<float>::infinity();
  const std::vector<double> before = still.model.parameters()[1].to_vector();
  EXPECT_FALSE(still.trainer.update(true).applied);
  EXPECT_EQ(still.optimizer.step(), 0);
  EXPECT_EQ(still.model.parameters()[1].to_vector(), before);
  EXPECT_THROW(still.trainer.update(), Error);
  EXPECT_THROW(Still({.accumulate = 0}), Error);
  EXPECT_THROW(Still({.label_smoothing = 1}), Error);
}

}  // namespace
}  // namespace attune::train
