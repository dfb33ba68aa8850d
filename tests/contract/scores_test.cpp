// Scores in the places that random small numbers do not reach: rows of length 0, rows that nearly coincide, layers with
// kinks, keys of another width, long tables; and what one score says about another.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/attention/mechanisms.hpp"
#include "attune/base/error.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"
#include "contract/run.hpp"
#include "message_of.hpp"

namespace attune::contract {
namespace {

using testing::message_of;

/// One score under softmax over many default tiles; wider: how much wider keys are than queries.
Scenario score_scenario(AnyScore score, formula::ScoreFormula plain, int queries = 70, int keys = 150, int wider = 0) {
  Scenario s;
  s.random = Generator(77);
  s.shape = {1, 2, 1, queries, keys, 6, 6 + wider, 3};
  s.options.score = std::move(score);
  s.plain.score = std::move(plain);
  s.has_oracle = false;
  s.ranges["temperature"] = {0.3, 0.9};
  s.ranges["bandwidth"] = {0.8, 2};
  draw_numbers(s);
  return s;
}

/// Forward and backward in both types, by the bars of the numerical contract.
template <class T>
void score_is_exact(const Scenario& s, double more = 1) {
  const auto up = upstream_of<T>(s);
  const auto forward = expected_forward(s, s.in);
  const auto gradient = expected_gradient(s, s.in, s.dout);
  const Result<T> r = run_public<T>(s, converted<T>(s.in), &up);
  const double bar = more * forward_bar(T(), largest_logit(s.reference, forward));
  EXPECT_LE(error_of(r.out, forward.out), bar) << s.options.score.name();
  EXPECT_LE(error_of(r.lse, forward.stat, 1.0), bar) << s.options.score.name();
  double floor = 0;
  for (const auto& array : gradient) {
    for (const double g : array) floor = std::max(floor, std::abs(g) / 20);
  }
  for (std::size_t a = 0; a < gradient.size(); ++a) {
    EXPECT_LE(error_of(r.gradient[a], gradient[a], floor), 5 * bar) << s.options.score.name() << " gradient " << a;
  }
}

TEST(Scores, ManyTiles) {
  const Scenario all[] = {score_scenario(Bilinear{.key_dim = 9}, formula::bilinear(), 70, 150, 3),
                          score_scenario(MlpScore{.hidden = {4, 3}, .activation = ScoreActivation::relu},
                                         formula::mlp({4, 3}, ScoreActivation::relu), 30, 40, 2),
                          score_scenario(NormalizedDot{}, formula::qk_norm(RowNorm::rms, 1e-6, 1 / std::sqrt(6.0))),
                          score_scenario(LocalP{.hidden_dim = 4}, formula::local_p(4, 10, 1 / std::sqrt(6.0))),
                          score_scenario(Shaw{.max_distance = 100}, formula::shaw(100, Per::call, 1 / std::sqrt(6.0))),
                          score_scenario(TransformerXl{}, formula::transformer_xl(6, 10000)),
                          score_scenario(Deberta{.max_distance = 60}, formula::deberta(60))};
  for (const Scenario& s : all) {
    score_is_exact<double>(s);
    score_is_exact<float>(s);
  }
}

/// Relative scores see positions: the same rows further on, and queries before the first key.
TEST(Scores, QueriesStandWhereTheOffsetSays) {
  for (const int offset : {-40, 80}) {
    for (const bool xl : {false, true}) {
      Scenario s;
      s.random = Generator(5);
      s.shape = {1, 1, 1, 70, 150, 4, 4, 2};
      s.options.offset = s.reference.offset = {offset};
      s.has_oracle = false;
      if (xl) {
        s.options.score = TransformerXl{.sinusoid_dim = 8};
        s.plain.score = formula::transformer_xl(8, 10000);
      } else {
        s.options.score = Deberta{.max_distance = 50, .as_released = true};
        s.plain.score = formula::deberta(50, true);
      }
      draw_numbers(s);
      score_is_exact<double>(s);
    }
  }
}

/// A query and a key of zeros: logits 0, gradients 0, no NaN.
TEST(Scores, CosineOfARowOfLengthZeroIsZero) {
  Scenario s = score_scenario(CosineScore{}, formula::cosine(), 9, 7);
  std::fill_n(s.in[0].begin() + 2 * 6, 6, 0.0);  // query 2 of head 0
  std::fill_n(s.in[1].begin() + 3 * 6, 6, 0.0);  // key 3
  score_is_exact<double>(s);
  score_is_exact<float>(s);
  const auto up = upstream_of<double>(s);
  const Result<double> r = run_public<double>(s, s.in, &up);
  EXPECT_DOUBLE_EQ(r.lse[2], std::log(7.0));
  for (int d = 0; d < 6; ++d) {
    EXPECT_EQ(r.gradient[0][std::size_t(2 * 6 + d)], 0);
    EXPECT_EQ(r.gradient[1][std::size_t(3 * 6 + d)], 0);
  }
}

/// Lengths whose squares leave the range of float32.
TEST(Scores, CosineOfTinyAndHugeRows) {
  for (const double size : {1e-30, 1e30}) {
    const Scenario s = score_scenario(CosineScore{}, formula::cosine(), 9, 7);
    Arrays<float> in = converted<float>(s.in);
    for (const std::size_t a : {0u, 1u}) {
      for (float& x : in[a]) x = float(double(x) * size);
    }
    EXPECT_LE(error_of(run_public<float>(s, in).out, expected_forward(s, s.in).out), 4e-6) << size;
  }
}

/// Rows of length about 170 at distances about 1: the expanded square would be off by a hundredth in float32.
TEST(Scores, DistancesOfRowsThatNearlyCoincideAreExact) {
  for (const bool learned : {false, true}) {
    Scenario s = learned ? score_scenario(GaussianKernel{}, formula::gaussian(), 40, 70)
                         : score_scenario(SquaredDistance{}, formula::squared_distance(1), 40, 70);
    for (const std::size_t a : {0u, 1u}) {
      for (double& x : s.in[a]) x = double(float(70 + x / 4));
    }
    score_is_exact<double>(s);
    score_is_exact<float>(s);
  }
}

/// With bandwidth w a Gaussian score is the squared distance at scale 1 / (2 w^2), and what is farther weighs less.
TEST(Scores, GaussianIsNadarayaWatson) {
  AttendShape shape{1, 1, 1, 1, 3, 1, 1, 1};
  const Views<double> views(shape, {.score = GaussianKernel{}});
  const Arrays<double> in = {{0.5}, {0, 1, 3}, {2, 4, 8}, {0.7}};
  const Result<double> r = run_public<double>(shape, {.score = GaussianKernel{}}, in);
  double top = 0, bottom = 0;
  for (int j = 0; j < 3; ++j) {
    const double u = (0.5 - in[1][std::size_t(j)]) / 0.7, w = std::exp(-u * u / 2);
    top += w * in[2][std::size_t(j)];
    bottom += w;
  }
  EXPECT_NEAR(r.out[0], top / bottom, 1e-14);
}

/// One matrix [W_q W_k] or two: the same number, the same gradients.
TEST(Scores, ConcatIsAdditiveWithOneMatrix) {
  const Scenario two = score_scenario(Additive{.hidden_dim = 4}, formula::additive(4), 20, 30, 1);
  Scenario one = score_scenario(Concat{.hidden_dim = 4}, formula::concat(4), 20, 30, 1);
  // One key head, so the two query heads share W: give both the weights of head 0.
  Scenario both = two;
  for (std::size_t n = 0; n < 24; ++n) both.in[3][24 + n] = both.in[3][n];
  one.in = {both.in[0], both.in[1], both.in[2], {}, both.in[5]};
  for (std::size_t e = 0; e < 4; ++e) {
    for (std::size_t d = 0; d < 6; ++d) one.in[3].push_back(both.in[3][e * 6 + d]);
    for (std::size_t d = 0; d < 7; ++d) one.in[3].push_back(both.in[4][e * 7 + d]);
  }
  const auto up = upstream_of<double>(both);
  const Result<double> a = run_public<double>(both, both.in, &up), b = run_public<double>(one, one.in, &up);
  EXPECT_LE(error_of(a.out, b.out), 1e-14);
  EXPECT_LE(error_of(a.gradient[1], b.gradient[1]), 1e-13);
  for (std::size_t e = 0; e < 4; ++e) {
    for (std::size_t d = 0; d < 6; ++d) {
      EXPECT_NEAR(b.gradient[3][e * 13 + d], a.gradient[3][e * 6 + d] + a.gradient[3][24 + e * 6 + d], 1e-13);
    }
  }
}

/// The gradient of the keys under a score that does not look at them is exactly 0.
TEST(Scores, LocationDoesNotLookAtKeys) {
  const Scenario s = score_scenario(LocationBased{.num_positions = 160}, formula::location(160));
  score_is_exact<double>(s);
  score_is_exact<float>(s);
  const auto up = upstream_of<double>(s);
  const Result<double> r = run_public<double>(s, s.in, &up);
  for (const double g : r.gradient[1]) EXPECT_EQ(g, 0);
  for (std::size_t n = 0; n < 10 * 6; ++n) EXPECT_EQ(r.gradient[3][150 * 6 + n], 0);  // rows behind the last key
}

TEST(Scores, WhatDoesNotFitIsSaid) {
  const AttendShape wide{1, 2, 1, 3, 4, 6, 7, 2};
  const AttendShape odd{1, 2, 1, 3, 4, 5, 5, 2};
  const auto said = [](const AnyScore& score, const AttendShape& shape) {
    return message_of([&] { score.on<float>()->check(shape); });
  };
  EXPECT_EQ(said(Dot{}, wide), "dot: query and key of one width, got 6 and 7");
  EXPECT_EQ(said(Bilinear{}, wide), "bilinear: keys of width 6 (option key_dim), got 7");
  EXPECT_EQ(said(Concat{}, wide), "concat: hidden_dim of 1 or more, got 0");
  EXPECT_EQ(said(MlpScore{}, wide), "mlp: hidden, the widths of one or more layers, got none");
  EXPECT_EQ(said(MlpScore{.hidden = {3, 0}}, wide), "mlp: hidden widths of 1 or more, got 0");
  EXPECT_EQ(said(NormalizedDot{.epsilon = 0}, odd), "qk_norm: epsilon above 0, got 0");
  EXPECT_EQ(said(LocationBased{.num_positions = 3}, odd), "location: num_positions for all 4 keys, got 3");
  EXPECT_EQ(said(LocalP{.hidden_dim = 2, .half_width = 0}, odd), "local_p: half_width above 0, got 0");
  EXPECT_EQ(said(Shaw{.max_distance = -1}, odd), "shaw: max_distance of 0 or more, got -1");
  EXPECT_EQ(said(TransformerXl{}, odd), "transformer_xl: an even sinusoid_dim of 2 or more, got 5");
  EXPECT_EQ(said(Deberta{.max_distance = 0}, odd), "deberta: max_distance of 1 or more, got 0");
  EXPECT_EQ(message_of([&] {
              score_named("mlp", {{"activation", std::string("selu")}}, odd);
            }),
            "mlp: activation as one of tanh, relu, gelu, got \"selu\"");
  EXPECT_EQ(score_named("mlp", {{"hidden", std::vector<double>{4, 3}}}, odd).as<MlpScore>()->hidden,
            (std::vector<int>{4, 3}));
}

}  // namespace
}  // namespace attune::contract
