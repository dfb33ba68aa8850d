// The decoder-only model: it learns a pattern by heart, writes it, and its gradients are those of its loss.
#include "attune/models/gpt.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "attune/attention/position/rotary.hpp"
#include "attune/autograd/gradcheck.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"

namespace attune::models::gpt_tests {
namespace {

GptOptions tiny() {
  return {.vocab_size = 7, .num_layers = 2, .model_dim = 16, .num_heads = 2, .feed_forward_dim = 32, .context = 12};
}

/// 1 2 3 4 5 6 1 2 3 ... from two places on, [2, 12], and what follows each token.
struct Circle {
  Ids tokens, targets;
  Circle() {
    std::vector<std::int32_t> now, next;
    for (int row = 0; row < 2; ++row) {
      for (int t = 0; t < 12; ++t) {
        now.push_back(1 + (3 * row + t) % 6);
        next.push_back(1 + (3 * row + t + 1) % 6);
      }
    }
    tokens = Ids(now, {2, 12});
    targets = Ids(next, {2, 12});
  }
};

/// Steps of Adam in plain loops; optimizers are not below this layer.
double learn(Gpt& gpt, const Circle& circle, int steps) {
  std::vector<Tensor> parameters = gpt.parameters();
  std::vector<std::vector<double>> first, second;
  for (const Tensor& p : parameters) {
    first.emplace_back(std::size_t(p.size()), 0.0);
    second.emplace_back(std::size_t(p.size()), 0.0);
  }
  for (int step = 1; step <= steps; ++step) {
    gpt.zero_grad();
    gpt.loss(circle.tokens, circle.targets).backward();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      float* x = parameters[i].data<float>();
      const Tensor gradient = parameters[i].grad();
      const float* g = gradient.data<float>();
      for (std::size_t j = 0; j < first[i].size(); ++j) {
        first[i][j] = 0.9 * first[i][j] + 0.1 * double(g[j]);
        second[i][j] = 0.99 * second[i][j] + 0.01 * double(g[j]) * double(g[j]);
        const double m = first[i][j] / (1 - std::pow(0.9, step)), v = second[i][j] / (1 - std::pow(0.99, step));
        x[j] -= float(1e-2 * m / (std::sqrt(v) + 1e-9));
      }
    }
  }
  return gpt.loss(circle.tokens, circle.targets).item();
}

TEST(Gpt, LearnsAPatternAndWritesIt) {
  const Circle circle;
  for (const bool tied : {true, false}) {
    set_seed(3);
    GptOptions options = tiny();
    options.tied = tied;
    Gpt gpt(options);
    const double at_first = gpt.loss(circle.tokens, circle.targets).item();
    EXPECT_NEAR(at_first, std::log(7.0), 0.1);  // nats: it knows nothing
    EXPECT_LT(learn(gpt, circle, 80), 0.05);
    EXPECT_EQ(gpt.generate({1, 2, 3}, {.max_new_tokens = 4}), (std::vector<std::int32_t>{1, 2, 3, 4, 5, 6, 1}));
    EXPECT_EQ(gpt.generate({4}, {.max_new_tokens = 9, .end_id = 6}), (std::vector<std::int32_t>{4, 5, 6}));
    EXPECT_EQ(gpt.generate({1}, {.max_new_tokens = 50}).size(), 12u);  // the context is full
    EXPECT_TRUE(gpt.training());
  }
}

TEST(Gpt, GradientsAreThoseOfTheLoss) {
  set_seed(5);
  GptOptions options = tiny();
  options.init_deviation = 0.3;  // far from the flat start
  options.num_kv_heads = 1;
  Gpt gpt(options);
  gpt.to(DType::float64);
  const Circle circle;
  const GradcheckReport report =
      gradcheck([&](const std::vector<Tensor>&) { return gpt.loss(circle.tokens, circle.targets); }, gpt.parameters(),
                {.most_elements = 20});
  EXPECT_TRUE(report.passed) << report.text;
}

TEST(Gpt, LooksAtNothingThatFollows) {
  set_seed(6);
  Gpt gpt(tiny());
  std::vector<std::int32_t> a = {1, 2, 3, 4, 5, 6}, b = {1, 2, 3, 6, 1, 1};
  const auto x = gpt.logits(Ids(a, {1, 6})).to_vector(), y = gpt.logits(Ids(b, {1, 6})).to_vector();
  for (std::size_t i = 0; i < 3 * 7; ++i) EXPECT_EQ(x[i], y[i]);
  EXPECT_NE(x[3 * 7], y[3 * 7]);
}

TEST(Gpt, RotaryPositionsReplaceLearnedOnes) {
  set_seed(7);
  GptOptions options = tiny();
  const std::int64_t with = Gpt(options).num_parameters();
  options.token_position = nn::TokenPosition::none;
  options.position = Rotary{};
  Gpt gpt(options);
  EXPECT_EQ(gpt.num_parameters(), with - 12 * 16);
  EXPECT_EQ(gpt.generate({1, 2}, {.max_new_tokens = 5}).size(), 7u);
}

TEST(Gpt, SinusoidalPositionsNeedNoParameters) {
  set_seed(7);
  GptOptions options = tiny();
  const std::int64_t with = Gpt(options).num_parameters();
  options.token_position = nn::TokenPosition::sinusoidal;
  Gpt gpt(options);
  EXPECT_EQ(gpt.num_parameters(), with - 12 * 16);
  options.token_position = nn::TokenPosition::none;
  set_seed(7);
  Gpt lost(options);
  gpt.eval(), lost.eval();
  const std::vector<double> told = gpt.logits(Ids({3, 3, 3}, {1, 3})).to_vector(),
                            blind = lost.logits(Ids({3, 3, 3}, {1, 3})).to_vector();
  EXPECT_NE(told[0], told[7]) << "equal tokens at different places";
  EXPECT_NEAR(blind[0], blind[7], 1e-6);
}

TEST(Gpt, EmbeddingsMayBeginLarger) {
  GptOptions options = tiny();
  options.embedding_deviation = 1;
  set_seed(9);
  const Gpt gpt(options);
  const auto deviation = [&](const std::string& name) {
    for (const nn::NamedTensor& p : gpt.named_parameters()) {
      if (p.name != name) continue;
      double sum = 0;
      for (const double x : p.tensor.to_vector()) sum += x * x;
      return std::sqrt(sum / double(p.tensor.size()));
    }
    return 0.0;
  };
  EXPECT_NEAR(deviation("embedding.weight"), 1, 0.3);
  EXPECT_NEAR(deviation("layers.layer0.attention.weight_in"), 0.02, 0.006);
}

TEST(Gpt, WritesTheSameWithEveryRemedy) {
  set_seed(10);
  GptOptions options = tiny();
  options.norm_kind = nn::NormKind::rms;
  options.num_kv_heads = 1;
  options.init_deviation = 0.3;
  options.stability = {.qk_norm = nn::QkNorm::rms, .output_gate = true, .sigma_reparam = true};
  Gpt gpt(options);
  std::vector<std::int32_t> text = {1, 2};
  for (int i = 0; i < 6; ++i) {  // token by token without a cache
    const auto n = std::int64_t(text.size());
    const std::vector<double> logits = gpt.logits(Ids(text, {1, n})).to_vector();
    const auto row = logits.end() - 7;
    text.push_back(std::int32_t(std::max_element(row, logits.end()) - row));
  }
  EXPECT_EQ(gpt.generate({1, 2}, {.max_new_tokens = 6}), text);
}

TEST(Gpt, DrawsFollowTheSeedAndTheTemperature) {
  set_seed(8);
  Gpt gpt(tiny());
  const GenerateOptions hot{.max_new_tokens = 8, .temperature = 5, .seed = 1};
  GenerateOptions other = hot, cold = hot;
  other.seed = 2;
  cold.temperature = 1e-6;
  EXPECT_EQ(gpt.generate({1}, hot), gpt.generate({1}, hot));
  EXPECT_NE(gpt.generate({1}, hot), gpt.generate({1}, other));
  EXPECT_EQ(gpt.generate({1}, cold), gpt.generate({1}, {.max_new_tokens = 8}));
}

TEST(Gpt, SaysWhatDoesNotFit) {
  EXPECT_THROW(Gpt({.vocab_size = 0}), Error);
  EXPECT_THROW(Gpt({.vocab_size = 4, .context = 0}), Error);
  EXPECT_THROW(Gpt({.vocab_size = 4, .init_deviation = -1}), Error);
  Gpt gpt(tiny());
  EXPECT_THROW(gpt.logits(Ids(std::vector<std::int32_t>(13, 1), {1, 13})), Error);
  EXPECT_THROW(gpt.logits(Ids({7}, {1, 1})), Error);
  EXPECT_THROW(gpt.loss(Ids({1, 2}, {1, 2}), Ids({1, 2}, {2, 1})), Error);
  EXPECT_THROW(gpt.generate({}), Error);
  EXPECT_THROW(gpt.generate({1}, {.temperature = -1}), Error);
}

}  // namespace
}  // namespace attune::models::gpt_tests
