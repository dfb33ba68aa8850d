// Optimizers against stored weights of other libraries in float64, and the two halves of a step.
#include "attune/optim/optimizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/base/parallel.hpp"
#include "optim/golden_problem.hpp"

namespace attune::optim {
namespace {

using nlohmann::json;

TEST(Optimizer, EqualsOtherLibrariesOver100Steps) {
  const json cases = golden_cases();
  int compared = 0, evaluated = 0;
  for (const json& c : cases) {
    Problem problem;
    const auto optimizer = make(c, problem.weights);
    EXPECT_EQ(optimizer->kind(), c["kind"].get<std::string>());
    for (std::int64_t t = 0; t < 100; ++t) {
      problem.set_gradients<double>(t, c.contains("spikes"));
      ASSERT_TRUE(optimizer->advance());
      const std::string at = std::to_string(t + 1);
      if (!c["weights"].contains(at)) continue;
      const auto compare = [&](const json& expected, int& count) {
        const auto got = problem.values();
        ASSERT_EQ(got.size(), expected.size());
        for (std::size_t i = 0; i < got.size(); ++i, ++count) {
          EXPECT_NEAR(got[i], expected[i].get<double>(), 1e-12) << c["name"] << " step " << at << " weight " << i;
        }
      };
      compare(c["weights"][at], compared);
      if (!c.contains("evaluated")) continue;
      const auto trained = problem.values();
      optimizer->eval();
      compare(c["evaluated"][at], evaluated);
      EXPECT_THROW(optimizer->propose(), Error);
      optimizer->train();
      EXPECT_EQ(problem.values(), trained);
    }
    EXPECT_EQ(optimizer->step(), 100);
  }
  EXPECT_EQ(compared, 43 * 3 * 23);
  EXPECT_EQ(evaluated, 4 * 3 * 23);
}

TEST(Optimizer, Float32FollowsFloat64) {
  for (const json& c : golden_cases()) {
    if (c["name"] == "adamw_average") continue;  // its weights are adamw's
    Problem narrow(DType::float32), wide;
    const auto a = make(c, narrow.weights), b = make(c, wide.weights);
    for (std::int64_t t = 0; t < 100; ++t) {
      narrow.set_gradients<float>(t, c.contains("spikes"));
      wide.set_gradients<double>(t, c.contains("spikes"));
      a->advance();
      b->advance();
    }
    // Lion's sign and Newton-Schulz, which multiplies small singular values by 3.4 five times, enlarge a rounding
    // error.
    const bool steep = c["kind"] == "lion" || c["kind"] == "muon";
    for (std::size_t i = 0; i < 23; ++i) {
      EXPECT_NEAR(narrow.values()[i], wide.values()[i], steep ? 2e-2 : 2e-5) << c["name"];
    }
  }
}

TEST(Optimizer, ProposalsChangeNoWeightAndMayBeScaledInPart) {
  Problem base, scaled;
  const AdamWOptions options{.learning_rate = 0.02, .weight_decay = 0.1};
  AdamW one(base.weights, options), two(scaled.weights, options);
  const auto before = base.values();
  base.set_gradients<double>(0);
  scaled.set_gradients<double>(0);
  ASSERT_TRUE(one.propose());
  ASSERT_TRUE(two.propose());
  EXPECT_EQ(base.values(), before);
  EXPECT_EQ(one.step(), 0);
  const std::size_t i = two.index_of(scaled.weights[0]);
  const View staged = two.update(i);
  EXPECT_EQ(staged.shape, (Shape{3, 4}));
  double sum = 0;
  for (int k = 4; k < 12; ++k) sum += std::pow(static_cast<double*>(staged.data)[k], 2);
  EXPECT_DOUBLE_EQ(two.update_norm(i, 1, 3), std::sqrt(sum));
  sum = 0;
  for (int k = 4; k < 12; ++k) sum += before[std::size_t(k)] * before[std::size_t(k)];
  EXPECT_DOUBLE_EQ(two.weight_norm(i, 1, 3), std::sqrt(sum));
  two.scale_update(i, 1, 3, 0.25);
  one.apply();
  two.apply();
  const auto full = base.values(), part = scaled.values();
  for (std::size_t k = 0; k < 23; ++k) {
    // Weight decay is not scaled: only what is beside it shrinks.
    const double decayed = before[k] * (1 - 0.02 * 0.1);
    const double factor = k >= 4 && k < 12 ? 0.25 : 1;
    EXPECT_NEAR(part[k] - decayed, factor * (full[k] - decayed), 1e-15) << k;
  }
}

TEST(Optimizer, SkipsAndCountsGradientsThatAreNotFinite) {
  for (const double clip_value : {0.0, 0.5}) {
    for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      Problem problem;
      AdamW optimizer(problem.weights, {.learning_rate = 0.02, .clip_norm = 1, .clip_value = clip_value});
      problem.set_gradients<double>(0);
      optimizer.advance();
      const auto before = problem.values();
      const auto moments = optimizer.state().arrays[1].second.to_vector();
      problem.set_gradients<double>(1);
      problem.weights[1].grad().data<double>()[2] = bad;
      EXPECT_FALSE(optimizer.advance());
      EXPECT_FALSE(std::isfinite(optimizer.gradient_norm()));
      EXPECT_EQ(optimizer.skipped(), 1);
      EXPECT_EQ(optimizer.step(), 1);
      EXPECT_EQ(problem.values(), before);
      EXPECT_EQ(optimizer.state().arrays[1].second.to_vector(), moments);
      EXPECT_THROW(optimizer.apply(), Error);
      problem.set_gradients<double>(1);
      EXPECT_TRUE(optimizer.advance());
    }
  }
}

TEST(Optimizer, ResumesBitForBitAtEveryStep) {
  const json cases = golden_cases();
  ASSERT_GT(cases.size(), 0u);
  constexpr std::int64_t kSteps = 36;  // ZClip's mean begins at 25, the spikes at 30
  for (const json& c : cases) {
    Problem whole;
    const auto uninterrupted = make(c, whole.weights);
    uninterrupted->set_rate_multiplier(0.75);
    std::vector<OptimizerState> states;
    std::vector<std::vector<Tensor>> weights;
    for (std::int64_t t = 0; t < kSteps; ++t) {
      states.push_back(uninterrupted->state());
      weights.emplace_back();
      for (const Tensor& w : whole.weights) weights.back().push_back(w.clone());
      whole.set_gradients<double>(t, c.contains("spikes"));
      uninterrupted->advance();
    }
    for (std::int64_t k = 0; k < kSteps; ++k) {
      Problem resumed;
      const auto again = make(c, resumed.weights);
      for (std::size_t i = 0; i < weights[std::size_t(k)].size(); ++i) {
        resumed.weights[i].copy_from(weights[std::size_t(k)][i]);
      }
      again->load_state(states[std::size_t(k)]);
      for (std::int64_t t = k; t < kSteps; ++t) {
        resumed.set_gradients<double>(t, c.contains("spikes"));
        again->advance();
      }
      EXPECT_EQ(resumed.values(), whole.values()) << c["name"] << " at " << k;
      for (std::size_t i = 0; i < states[0].arrays.size(); ++i) {
        EXPECT_EQ(again->state().arrays[i].second.to_vector(), uninterrupted->state().arrays[i].second.to_vector());
      }
      EXPECT_EQ(again->state().numbers, uninterrupted->state().numbers);
    }
  }
}

TEST(Optimizer, WeightsToEvaluateWithComeBackFromACheckpoint) {
  for (const json& c : golden_cases()) {
    if (!c.contains("evaluated")) continue;
    Problem whole;
    const auto optimizer = make(c, whole.weights);
    EXPECT_TRUE(optimizer->has_average());
    for (std::int64_t t = 0; t < 7; ++t) {
      whole.set_gradients<double>(t);
      optimizer->advance();
    }
    EXPECT_THROW(optimizer->require_eval("validate"), Error);
    const auto trained = whole.values();
    optimizer->eval();
    optimizer->require_eval("validate");
    const auto average = whole.values();
    EXPECT_NE(average, trained) << c["name"];
    const OptimizerState state = optimizer->state();
    // The checkpoint's weights are those to evaluate with; the trained ones come out of the state.
    Problem resumed;
    const auto again = make(c, resumed.weights);
    for (std::size_t i = 0; i < whole.weights.size(); ++i) resumed.weights[i].copy_from(whole.weights[i]);
    again->load_state(state);
    EXPECT_EQ(resumed.values(), trained);
    again->eval();
    EXPECT_EQ(resumed.values(), average);
  }
  Problem plain;
  AdamW adamw(plain.weights, {});
  adamw.require_eval("validate");
  adamw.eval();
  EXPECT_FALSE(adamw.evaluating());
}

TEST(Optimizer, StateOfAnotherOptimizerIsRefused) {
  Problem problem, other;
  AdamW adamw(problem.weights, {});
  Adam adam(other.weights, {});
  EXPECT_THROW(adamw.load_state(adam.state()), Error);
  OptimizerState state = adamw.state();
  state.offsets.pop_back();
  EXPECT_THROW(adamw.load_state(state), Error);
  state = adamw.state();
  state.arrays.pop_back();
  EXPECT_THROW(adamw.load_state(state), Error);
  state = adamw.state();
  state.arrays[0].second = state.arrays[0].second.to(DType::float32);
  EXPECT_THROW(adamw.load_state(state), Error);
  state = adamw.state();
  state.numbers["distance"] = 1;
  EXPECT_THROW(adamw.load_state(state), Error);
  state.numbers.clear();  // as states without numbers were
  adamw.load_state(state);
  EXPECT_EQ(adamw.rate_multiplier(), 1);
}

TEST(Optimizer, EqualBitsForAnyNumberOfThreads) {
  const int before = num_threads();
  Generator generator(3);
  const Shape shape{257, 261};  // enough for two threads
  const Tensor first = Tensor::randn(shape, generator), gradient = Tensor::randn(shape, generator);
  for (const json& c : golden_cases()) {
    if (c["name"] != c["kind"]) continue;  // one of each
    json clipped = c;
    clipped["clip_norm"] = 1;
    clipped["clip_adaptive"] = 0.01;
    std::vector<std::vector<double>> results;
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      Tensor w = first.clone();
      w.requires_grad();
      const auto optimizer = make(clipped, {w});
      for (int t = 0; t < 2; ++t) {
        w.grad().copy_from(gradient);
        optimizer->advance();
      }
      results.push_back(w.to_vector());
      results.back().push_back(optimizer->gradient_norm());
    }
    EXPECT_EQ(results[1], results[0]) << c["name"];
  }
  set_num_threads(before);
}

TEST(Optimizer, TwoGroupsOfOneRank) {
  Problem problem;
  const auto groups = decay_matrices_only(problem.weights);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].parameters.size(), 2u);
  EXPECT_FALSE(groups[1].weight_decay);
  EXPECT_TRUE(groups[1].parameters[0].is(problem.weights[1]));
}

TEST(Optimizer, ErrorsSayWhatIsWrong) {
  Problem p;
  EXPECT_THROW(Sgd(p.weights, {.momentum = 1}), Error);
  EXPECT_THROW(Sgd(p.weights, {.nesterov = true}), Error);
  EXPECT_THROW(Adam(p.weights, {.betas = {0.9, 1.0}}), Error);
  EXPECT_THROW(AdamW(p.weights, {.learning_rate = std::nan("")}), Error);
  EXPECT_THROW(AdamW(std::vector<Tensor>{}, {}), Error);
  AdamW optimizer(p.weights, {});
  EXPECT_THROW(optimizer.scale_update(0, 0, 1, 0.5), Error);
  p.set_gradients<double>(0);
  optimizer.propose();
  EXPECT_THROW(optimizer.propose(), Error);
  EXPECT_THROW(optimizer.state(), Error);
  EXPECT_THROW(optimizer.scale_update(0, 2, 4, 0.5), Error);
  EXPECT_THROW(optimizer.update(3), Error);
  EXPECT_THROW(optimizer.index_of(Tensor::zeros({2})), Error);
  optimizer.apply();
  EXPECT_THROW(optimizer.propose(std::nan("")), Error);
}

TEST(Clip, NormAndValue) {
  Tensor g = Tensor::from({3, -4, 0}, {3}, DType::float64);
  EXPECT_DOUBLE_EQ(norm_of(g), 5);
  EXPECT_DOUBLE_EQ(clip_by_norm(g, 10), 5);
  EXPECT_EQ(g.to_vector(), (std::vector<double>{3, -4, 0}));
  clip_by_norm(g, 1);
  EXPECT_NEAR(norm_of(g), 1, 1e-6);
  EXPECT_DOUBLE_EQ(g.to_vector()[0], 3 / (5 + 1e-6));
  clip_by_value(g, 0.25);
  EXPECT_EQ(g.to_vector(), (std::vector<double>{0.25, -0.25, 0}));
  EXPECT_THROW(clip_by_norm(g, 0), Error);
  EXPECT_THROW(clip_by_value(g, std::nan("")), Error);
}

}  // namespace
}  // namespace attune::optim
