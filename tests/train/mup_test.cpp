// muP: what a few updates do to the numbers inside a model does not depend on its width, and neither does the best
// learning rate; without it both do.
#include "attune/nn/mup.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "attune/models/gpt.hpp"
#include "attune/models/seq2seq.hpp"
#include "attune/nn/roles.hpp"
#include "attune/train/gpt_learner.hpp"
#include "attune/train/translate_task.hpp"

namespace attune::train {
namespace {

constexpr std::int64_t kVocab = 32, kContext = 16, kBatch = 4;

RunConfig recipe(const std::string& kind, std::int64_t width, std::int64_t base, double rate) {
  const bool gpt = kind == "gpt";
  return parse_config(fmt::format(
      "task = \"{}\"\n[data]\nsource = \"{}\"\n[train]\nsteps = 100\n[model]\nkind = \"{}\"\nnum_layers = 2\n"
      "num_heads = 4\nmodel_dim = {}\nmup_base_width = {}\ndropout = 0.0\n[optimizer]\nlearning_rate = {}\n"
      "[schedule]\nkind = \"constant\"\n",
      gpt ? "language-model" : "translate", gpt ? "novels" : "libreoffice-help", kind, width, base, rate));
}

/// Tokens that follow each other by a rule with exceptions, [kBatch, kContext] and one more to the right.
struct Text {
  Ids tokens, targets;
  explicit Text(std::uint64_t seed) {
    Generator generator(seed);
    std::vector<std::int32_t> now, next;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      auto token = std::int32_t(4 + generator.below(kVocab - 4));
      for (std::int64_t t = 0; t < kContext; ++t) {
        now.push_back(token);
        const bool rule = generator.uniform() < 0.9;
        token = 4 + std::int32_t(rule ? (5 * token + 3) % (kVocab - 4) : std::int32_t(generator.below(kVocab - 4)));
        next.push_back(token);
      }
    }
    tokens = Ids(now, {kBatch, kContext});
    targets = Ids(next, {kBatch, kContext});
  }
};

double root_mean_square(const std::vector<double>& x, const std::vector<double>& minus) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - minus[i]) * (x[i] - minus[i]);
  return std::sqrt(sum / double(x.size()));
}

/// How far four updates move numbers of a model, root mean squares.
struct Moved {
  double logits = 0, scores = 0;
};

double largest_score(const std::vector<nn::LayerAttention>& layers) {
  double largest = 0;
  for (const nn::LayerAttention& layer : layers) {
    for (const double s : layer.self.statistics.largest_score) largest = std::max(largest, s);
  }
  return largest;
}

Moved moved_gpt(std::int64_t width, std::int64_t base) {
  const RunConfig config = recipe("gpt", width, base, 1e-2);
  const auto model = make_gpt(config, kVocab, kContext);
  const auto optimizer = make_optimizer(config, *model);
  const Text text(1);
  std::vector<nn::LayerAttention> seen;
  const auto look = [&] {
    const NoGrad no_grad;
    return model->logits(text.tokens, {.statistics = true}, &seen).to_vector();
  };
  const std::vector<double> before = look();
  for (int t = 0; t < 4; ++t) {
    optimizer->zero_grad();
    model->loss(text.tokens, text.targets).backward();
    optimizer->advance();
  }
  const std::vector<double> after = look();
  return {root_mean_square(after, before), largest_score(seen)};
}

double moved_translator(std::int64_t width, std::int64_t base) {
  const RunConfig config = recipe("seq2seq_transformer", width, base, 1e-2);
  set_seed(config.seed);
  models::Seq2SeqTransformer model(model_options(config, kVocab));
  const auto optimizer = make_optimizer(config, model);
  const Text text(1);
  const auto look = [&] {
    const NoGrad no_grad;
    return model(text.tokens, text.tokens).to_vector();
  };
  const std::vector<double> before = look();
  for (int t = 0; t < 4; ++t) {
    optimizer->zero_grad();
    cross_entropy(model(text.tokens, text.tokens), text.targets).backward();
    optimizer->advance();
  }
  return root_mean_square(look(), before);
}

TEST(Mup, UpdatesMoveEveryWidthAlike) {
  const Moved small = moved_gpt(64, 64), middle = moved_gpt(128, 64), large = moved_gpt(256, 64);
  const Moved standard = moved_gpt(256, 0);
  EXPECT_EQ(moved_gpt(64, 0).logits, small.logits);  // the base is what it is without muP
  const auto ratio = [](double a, double b) { return a / b; };
  EXPECT_NEAR(std::log2(ratio(middle.logits, small.logits)), 0, 0.5) << middle.logits << " " << small.logits;
  EXPECT_NEAR(std::log2(ratio(large.logits, small.logits)), 0, 0.5) << large.logits << " " << small.logits;
  EXPECT_NEAR(std::log2(ratio(large.scores, small.scores)), 0, 0.8) << large.scores << " " << small.scores;
  EXPECT_GT(ratio(standard.logits, small.logits), 2) << standard.logits << " " << small.logits;
  EXPECT_GT(ratio(standard.scores, small.scores), 2) << standard.scores << " " << small.scores;
}

TEST(Mup, UpdatesMoveATranslatorOfEveryWidthAlike) {
  const double small = moved_translator(32, 32), large = moved_translator(128, 32);
  EXPECT_EQ(moved_translator(32, 0), small);
  EXPECT_NEAR(std::log2(large / small), 0, 0.5) << large << " " << small;
  EXPECT_GT(moved_translator(128, 0) / small, 1.4) << small;
}

TEST(Mup, WhatChangesWithTheWidth) {
  RunConfig config = recipe("gpt", 256, 64, 1e-2);
  config.model.tie_output = false;
  config.model.attention.output_gate = true;
  const auto model = make_gpt(config, kVocab, kContext);
  EXPECT_EQ(model->loss(Text(1).tokens, Text(1).targets).item(),
            model->loss(Text(2).tokens, Text(2).targets).item());  // a readout of zeros: log(kVocab) for all
  const auto optimizer = make_optimizer(config, *model);
  const auto rows = nn::parameter_roles(*model);
  const auto width_factor = [&](std::string_view name) {
    const ParameterRows r = nn::rows_named(rows, name).front();
    double factor = 1;
    for (const optim::RateFactor& f : optimizer->rate_of(optimizer->index_of(r.tensor), r.first, r.end)) {
      if (f.name == "width") factor *= f.value;
    }
    return factor;
  };
  for (const char* name : {"layer0.attention.query.head1", "layer1.attention.weight_out",
                           "layer0.attention.weight_gate", "layer0.feed_forward.contract.weight"})
    EXPECT_EQ(width_factor(name), 0.25) << name;
  for (const char* name :
       {"embedding.weight", "output.weight", "layer0.attention.bias_out", "layer0.attention.norm.bias"})
    EXPECT_EQ(width_factor(name), 1) << name;
  const auto deviation = [&](std::string_view name) {
    const std::vector<double> w = nn::rows_named(rows, name).front().tensor.to_vector();
    return root_mean_square(w, std::vector<double>(w.size(), 0));
  };
  EXPECT_NEAR(deviation("layer0.feed_forward.expand.weight"), 0.02 / 2, 2e-4);
  EXPECT_NEAR(deviation("embedding.weight"), 0.02, 1e-3);
}

TEST(Mup, RefusesWhatItDoesNotHoldFor) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      parse_config("[train]\nsteps = 9\n" + text, "r.toml");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("[model]\nmup_base_width = 64\n[optimizer]\nkind = \"muon\"\n"),
            "read_config: r.toml:4: one of the optimizers adam, adamw, nadam, radam, lion, ademamix, schedule_free "
            "with `mup_base_width`, got muon");
  EXPECT_NE(refusal("[model]\nmup_base_width = 64\n[optimizer.groups]\nbase_width = 32\n").find("left out"),
            std::string::npos);
  EXPECT_NE(refusal("[model]\nmup_base_width = 64\nattention.score = \"additive\"\n").find("scaled_dot"),
            std::string::npos);
  EXPECT_EQ(refusal("[model]\nmup_base_width = 64\n"), "");
}

/// Loss of the last ten of so many updates, each on a new text.
double loss_at(std::int64_t width, std::int64_t base, double rate) {
  const RunConfig config = recipe("gpt", width, base, rate);
  const auto model = make_gpt(config, kVocab, kContext);
  const auto optimizer = make_optimizer(config, *model);
  double sum = 0;
  constexpr int kSteps = 150;
  for (int t = 0; t < kSteps; ++t) {
    const Text text(100 + std::uint64_t(t));
    optimizer->zero_grad();
    const Tensor loss = model->loss(text.tokens, text.targets);
    loss.backward();
    if (!optimizer->advance()) return std::numeric_limits<double>::infinity();
    if (t >= kSteps - 10) sum += loss.item() / 10;
  }
  return sum;
}

TEST(Mup, TheBestRateStaysWhereItIs) {
  if (!std::getenv("ATTUNE_FULL")) GTEST_SKIP() << "a sweep of half a minute: ATTUNE_FULL=1";
  const auto sweep = [](std::int64_t width) {
    std::vector<double> losses;  // at rates 2^-5 .. 2^-9
    for (int k = 5; k <= 9; ++k) {
      losses.push_back(loss_at(width, 32, std::exp2(-k)));
      std::printf("width %3d, rate 2^-%d: loss %.3f\n", int(width), k, losses.back());
    }
    return losses;
  };
  const std::vector<double> small = sweep(32), large = sweep(256);
  const auto best = [](const std::vector<double>& x) { return std::min_element(x.begin(), x.end()) - x.begin(); };
  EXPECT_LE(std::abs(best(large) - best(small)), 1);
  EXPECT_LT(large[std::size_t(best(small))], small[std::size_t(best(small))]) << "wider is better at the same rate";
  EXPECT_GT(loss_at(256, 0, std::exp2(-5.0 - double(best(small)))), large[std::size_t(best(small))] + 0.5)
      << "without muP that rate is too high";
}

}  // namespace
}  // namespace attune::train
