// Optimizers against stored weights of PyTorch in float64, and the two halves of a step.
#include "attune/optim/optimizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/optim/all.hpp"

namespace attune::optim {
namespace {

using nlohmann::json;

/// The problem of tools/make_optimizer_golden.py.
struct Problem {
  std::vector<Tensor> weights;
  explicit Problem(DType dtype = DType::float64) {
    std::int64_t i = 0;
    for (const Shape& shape : {Shape{3, 4}, Shape{5}, Shape{2, 3}}) {
      std::vector<double> values;
      for (std::int64_t k = 0; k < shape.size(); ++k, ++i) values.push_back(double((29 * i) % 23 - 11) / 8);
      weights.push_back(Tensor::from(values, shape).to(dtype));
      weights.back().requires_grad();
    }
  }
  template <class T>
  void set_gradients(std::int64_t t) {
    std::int64_t i = 0;
    for (Tensor& w : weights) {
      Tensor grad = w.grad();
      for (std::int64_t k = 0; k < w.size(); ++k, ++i) {
        grad.data<T>()[k] = T(1 + i % 5) / 8 * w.data<T>()[k] + T((37 * i + 101 * t) % 17 - 8) / 16;
      }
    }
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const Tensor& w : weights) {
      for (const double x : w.to_vector()) all.push_back(x);
    }
    return all;
  }
};

json golden_cases() {
  std::ifstream file(ATTUNE_SOURCE_DIR "/tests/golden/optimizers.json");
  return json::parse(file)["cases"];
}

std::unique_ptr<Optimizer> make(const json& c, const std::vector<Tensor>& weights) {
  std::vector<ParameterGroup> groups;
  if (c.contains("groups")) {
    for (const json& g : c["groups"]) {
      ParameterGroup group{{}, g["learning_rate_factor"], g["weight_decay"]};
      for (const std::size_t i : g["parameters"]) group.parameters.push_back(weights[i]);
      groups.push_back(group);
    }
  } else {
    groups.push_back({weights});
  }
  const double rate = c["learning_rate"], decay = c.value("weight_decay", 0.0), norm = c.value("clip_norm", 0.0),
               value = c.value("clip_value", 0.0), epsilon = c.value("epsilon", 1e-8);
  const Schedule schedule =
      c.contains("total") ? warmup_linear({.warmup = c["warmup"], .total = c["total"]}) : Schedule();
  const std::array<double, 2> betas = c.value("betas", std::array<double, 2>{0.9, 0.999});
  if (c["kind"] == "sgd") {
    return std::make_unique<Sgd>(groups, SgdOptions{.learning_rate = rate,
                                                    .schedule = schedule,
                                                    .momentum = c.value("momentum", 0.0),
                                                    .dampening = c.value("dampening", 0.0),
                                                    .nesterov = c.value("nesterov", false),
                                                    .weight_decay = decay,
                                                    .clip_norm = norm,
                                                    .clip_value = value});
  }
  if (c["kind"] == "adam") {
    return std::make_unique<Adam>(groups, AdamOptions{rate, schedule, betas, epsilon, decay, norm, value});
  }
  return std::make_unique<AdamW>(groups, AdamWOptions{rate, schedule, betas, epsilon, decay, norm, value});
}

TEST(Optimizer, EqualsPyTorchOver100Steps) {
  const json cases = golden_cases();
  int compared = 0;
  for (const json& c : cases) {
    Problem problem;
    const auto optimizer = make(c, problem.weights);
    EXPECT_EQ(optimizer->kind(), c["kind"].get<std::string>());
    for (std::int64_t t = 0; t < 100; ++t) {
      problem.set_gradients<double>(t);
      ASSERT_TRUE(optimizer->advance());
      const std::string at = std::to_string(t + 1);
      if (!c["weights"].contains(at)) continue;
      const auto expected = c["weights"][at].get<std::vector<double>>();
      const auto got = problem.values();
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i], expected[i], 1e-12) << c["name"] << " step " << at << " weight " << i;
        ++compared;
      }
    }
    EXPECT_EQ(optimizer->step(), 100);
  }
  EXPECT_EQ(compared, 12 * 3 * 23);
}

TEST(Optimizer, Float32FollowsFloat64) {
  Problem narrow(DType::float32), wide;
  AdamW a(narrow.weights, {.learning_rate = 0.02, .clip_norm = 0.5}),
      b(wide.weights, {.learning_rate = 0.02, .clip_norm = 0.5});
  for (std::int64_t t = 0; t < 100; ++t) {
    narrow.set_gradients<float>(t);
    wide.set_gradients<double>(t);
    a.advance();
    b.advance();
  }
  for (std::size_t i = 0; i < 23; ++i) EXPECT_NEAR(narrow.values()[i], wide.values()[i], 1e-5);
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

TEST(Optimizer, ResumesBitForBit) {
  const json cases = golden_cases();
  ASSERT_GT(cases.size(), 0u);
  for (const json& c : cases) {
    for (const std::int64_t k : {0, 1, 5, 10, 17}) {
      Problem whole;
      const auto uninterrupted = make(c, whole.weights);
      OptimizerState saved;
      std::vector<Tensor> weights;
      for (std::int64_t t = 0; t < 20; ++t) {
        if (t == k) {
          saved = uninterrupted->state();
          for (const Tensor& w : whole.weights) weights.push_back(w.clone());
        }
        whole.set_gradients<double>(t);
        uninterrupted->advance();
      }
      Problem resumed;
      const auto again = make(c, resumed.weights);
      for (std::size_t i = 0; i < weights.size(); ++i) resumed.weights[i].copy_from(weights[i]);
      again->load_state(saved);
      for (std::int64_t t = k; t < 20; ++t) {
        resumed.set_gradients<double>(t);
        again->advance();
      }
      EXPECT_EQ(resumed.values(), whole.values()) << c["name"] << " at " << k;
    }
  }
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
}

TEST(Optimizer, EqualBitsForAnyNumberOfThreads) {
  std::vector<std::vector<double>> results;
  const int before = num_threads();
  for (const int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    Generator generator(3);
    Tensor w = Tensor::randn({301, 257}, generator);
    w.requires_grad();
    AdamW optimizer(std::vector<Tensor>{w}, {.learning_rate = 0.01, .clip_norm = 1});
    for (int t = 0; t < 3; ++t) {
      w.grad().copy_from(Tensor::randn({301, 257}, generator));
      optimizer.advance();
    }
    results.push_back(w.to_vector());
    results.back().push_back(optimizer.gradient_norm());
  }
  set_num_threads(before);
  for (const auto& r : results) EXPECT_EQ(r, results[0]);
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
