// Biases in the places that small random numbers do not reach: many tiles, queries far along, parameters outside their
// range; what Gumbel noise is worth; and what does not fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attune/attention/formulas/biases.hpp"
#include "attune/attention/mechanisms.hpp"
#include "attune/base/error.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"
#include "contract/run.hpp"
#include "contract/variants/biases.hpp"
#include "message_of.hpp"

namespace attune::contract {
namespace {

using testing::message_of;

Scenario bias_scenario(const std::function<void(Scenario&)>& add, int offset = 0, std::uint64_t seed = 78) {
  Scenario s;
  s.random = Generator(seed);
  s.shape = {1, 2, 1, 80, 200, 6, 6, 3};
  s.options.offset = s.reference.offset = {offset};
  add(s);
  detail::add_window(s, Causal{}, -1, 0);
  draw_numbers(s);
  return s;
}

/// The worst errors of each gradient over several draws of numbers, ours and the plain formula's. A bias term's
/// gradient cancels to 0, so that a single draw of the plain formula may be exact by chance.
struct Pool {
  std::vector<double> found, plain;
  void add(std::size_t array, double ours, double formula) {
    found.resize(std::max(found.size(), array + 1)), plain.resize(found.size());
    found[array] = std::max(found[array], ours), plain[array] = std::max(plain[array], formula);
  }
  void holds(const std::string& name) const {
    for (std::size_t a = 0; a < found.size(); ++a) EXPECT_LE(found[a], 2 * plain[a]) << name << " gradient " << a;
  }
};

/// Gradients above the bar: "or twice the error of the plain formula in the same type, if that is larger", of this draw
/// or, with a pool, of all draws that it holds.
template <class T>
void bias_is_exact(const Scenario& s, Pool* pool = nullptr) {
  const auto up = upstream_of<T>(s);
  const auto forward = expected_forward(s, s.in);
  const auto gradient = expected_gradient(s, s.in, s.dout);
  const Result<T> r = run_public<T>(s, converted<T>(s.in), &up);
  const double bar = forward_bar(T(), largest_logit(s.reference, forward));
  const std::string name(s.options.bias.back().name());
  EXPECT_LE(error_of(r.out, forward.out), bar) << name;
  EXPECT_LE(error_of(r.lse, forward.stat, 1.0), bar) << name;
  double floor = 0;
  for (const auto& array : gradient) {
    for (const double g : array) floor = std::max(floor, std::abs(g) / 20);
  }
  Arrays<T> plain;
  if (pool) plain = formula::gradient(s.plain, converted<T>(s.in), up.dout);
  for (std::size_t a = 0; a < gradient.size(); ++a) {
    const double error = error_of(r.gradient[a], gradient[a], floor);
    if (pool) {
      pool->add(a, error, std::max(2.5 * bar, error_of(plain[a], gradient[a], floor)));
      continue;
    }
    if (error <= 5 * bar) continue;
    if (plain.empty()) plain = formula::gradient(s.plain, converted<T>(s.in), up.dout);
    EXPECT_LE(error, 2 * error_of(plain[a], gradient[a], floor)) << name << " gradient " << a;
  }
}

TEST(Biases, ManyTilesAndPositionsFarAlong) {
  const std::function<void(Scenario&)> all[] = {[](Scenario& s) { detail::add_buckets(s, 32, 128, false); },
                                                [](Scenario& s) { detail::add_kerple(s, KerpleKernel::log); },
                                                [](Scenario& s) { detail::add_fire(s); },
                                                [](Scenario& s) { detail::add_log_n(s, LengthOf::position, 1, true); },
                                                [](Scenario& s) { detail::add_gumbel(s, 0.7, 11); }};
  for (const auto& add : all) {
    for (const int offset : {0, 90, -30}) bias_is_exact<double>(bias_scenario(add, offset));
    Pool pool;
    for (const std::uint64_t seed : {78, 79, 80, 81}) bias_is_exact<float>(bias_scenario(add, 90, seed), &pool);
    pool.holds(std::string(bias_scenario(add).options.bias.back().name()));
  }
}

/// FIRE with ReLU takes diagonals on which no unit bends as lines: units of which some
/// bend within diagonals, and queries on both sides of the threshold.
TEST(Biases, FireOfReluIsABrokenLine) {
  for (const int offset : {0, 90}) {
    const Scenario s = bias_scenario(
        [](Scenario& to) {
          detail::add_bias(to, Fire{.hidden_dim = 8, .length = 100}, formula::fire(8, 100, FireActivation::relu));
          to.ranges["rate"] = {0.2, 0.9};
          to.ranges["threshold"] = {0.9, 1.1};
        },
        offset);
    bias_is_exact<double>(s);
    bias_is_exact<float>(s);
  }
}

/// Magnitudes count: with the signs turned the output is the same, and so are the gradients with turned signs. A power
/// beyond 2 is 2.
TEST(Biases, ParametersOutsideTheirRangeKeepTheKernel) {
  for (const KerpleKernel kernel : {KerpleKernel::log, KerpleKernel::power}) {
    Scenario s = bias_scenario([=](Scenario& to) { detail::add_kerple(to, kernel); });
    const auto up = upstream_of<double>(s);
    const auto before = run_public<double>(s, s.in, &up);
    for (std::size_t a : {3, 4}) {
      for (double& x : s.in[a]) x = -x;
    }
    const auto after = run_public<double>(s, s.in, &up);
    EXPECT_TRUE(same_bits(before.out, after.out));
    for (std::size_t a : {3, 4}) {
      for (std::size_t h = 0; h < 2; ++h) EXPECT_EQ(after.gradient[a][h], -before.gradient[a][h]);
    }
    bias_is_exact<double>(s);
  }
  Scenario s = bias_scenario([](Scenario& to) { detail::add_kerple(to, KerpleKernel::power); });
  for (double& x : s.in[3]) x = 0.01;
  for (double& x : s.in[4]) x = 5;
  const auto up = upstream_of<double>(s);
  const auto beyond = run_public<double>(s, s.in, &up);
  EXPECT_EQ(beyond.gradient[4], (std::vector<double>{0, 0}));
  for (double& x : s.in[4]) x = 2;
  EXPECT_TRUE(same_bits(beyond.out, run_public<double>(s, s.in).out));
}

/// Arg max of logits + noise follows softmax of the logits; another seed gives other noise, the same seed the same.
TEST(Biases, GumbelNoiseSamplesTheSoftmax) {
  const int queries = 4000, keys = 5;
  const std::vector<double> logit = {-1, 0.5, 2, 0, -3};
  double sum = 0;
  for (const double x : logit) sum += std::exp(x);
  const auto noisy = [&](int seed) {
    std::vector<double> query(queries, 1.0), value(keys, 0.0), map(std::size_t(queries) * keys);
    attend_map({ConstView(query.data(), {1, 1, queries, 1}),
                ConstView(logit.data(), {1, 1, keys, 1}),
                ConstView(value.data(), {1, 1, keys, 1}),
                {}},
               {}, View(map.data(), {1, 1, queries, keys}), {.exposed = Exposed::logits},
               {.score = Dot{}, .bias = GumbelNoise{.seed = seed}});
    return map;
  };
  const std::vector<double> map = noisy(1);
  std::vector<double> share(keys);
  for (int i = 0; i < queries; ++i) {
    const double* row = map.data() + i * keys;
    share[std::size_t(std::max_element(row, row + keys) - row)] += 1.0 / queries;
  }
  for (int j = 0; j < keys; ++j) {
    const double p = std::exp(logit[std::size_t(j)]) / sum;
    EXPECT_NEAR(share[std::size_t(j)], p, 4 * std::sqrt(p * (1 - p) / queries)) << j;
  }
  EXPECT_EQ(map, noisy(1));
  EXPECT_NE(map, noisy(2));
}

TEST(Biases, ANaNParameterIsSeenByItsHeadAlone) {
  Scenario s = bias_scenario([](Scenario& to) { detail::add_kerple(to, KerpleKernel::log); });
  auto in = converted<float>(s.in);
  in[4][0] = std::numeric_limits<float>::quiet_NaN();
  const auto r = run_public<float>(s, in);
  EXPECT_TRUE(std::isnan(r.out[0]));                       // head 0
  EXPECT_TRUE(std::isfinite(r.out[std::size_t(80) * 3]));  // head 1
}

TEST(Biases, LogarithmsInLanesAreExact) {
  double worst = 0;
  for (int n = 1; n < 40000; ++n) {
    for (const float x : {float(n), 1 + float(n) * 1e-5f, 1 - float(n) * 2e-5f, float(n) * 1e-30f}) {
      const double want = std::log(double(x));
      if (want != 0) worst = std::max(worst, std::abs(double(attune::detail::lane_log(x)) - want) / std::abs(want));
    }
  }
  EXPECT_LE(worst, 3e-7);
  EXPECT_EQ(attune::detail::lane_log(1.0f), 0.0f);
}

TEST(Biases, WhatDoesNotFitIsSaid) {
  const auto error_of_bias = [](AnyBias bias) {
    return message_of([&] {
      const AttendShape shape{1, 1, 1, 2, 2, 2, 2, 2};
      bias.on<float>()->check(shape);
    });
  };
  EXPECT_EQ(error_of_bias(RelativeBuckets{.num_buckets = 7}),
            "relative_buckets: an even num_buckets of 4 or more, got 7");
  EXPECT_EQ(error_of_bias(RelativeBuckets{.num_buckets = 1, .causal = true}),
            "relative_buckets: num_buckets of 2 or more, got 1");
  EXPECT_EQ(error_of_bias(RelativeBuckets{.num_buckets = 32, .max_distance = 8}),
            "relative_buckets: a max_distance above the 8 distances that have a bucket each of 32 buckets, got 8");
  EXPECT_EQ(error_of_bias(Temperature{.temperature = 0}), "temperature: a temperature above 0, got 0");
  EXPECT_EQ(error_of_bias(GumbelNoise{.temperature = -1}), "gumbel: a temperature above 0, got -1");
  EXPECT_EQ(error_of_bias(LogLength{.scale = std::numeric_limits<double>::infinity()}),
            "log_n: a finite scale, got inf");
  EXPECT_EQ(error_of_bias(Fire{.hidden_dim = 0}), "fire: hidden_dim of 1 or more, got 0");
  EXPECT_EQ(error_of_bias(Fire{.length = 0}), "fire: a length above 0, got 0");
  EXPECT_EQ(message_of([] {
              bias_named("kerple", {{"kernel", std::string("exp")}});
            }),
            "kerple: kernel as one of log, power, got \"exp\"");
}

}  // namespace
}  // namespace attune::contract
