// The oracle on trial itself: by hand where a pocket calculator suffices, and against the plain formula and the tape,
// which share no line with it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/base/error.hpp"
#include "contract/covering.hpp"
#include "contract/measure.hpp"

namespace attune::contract {
namespace {

using kernels::ReferenceArrays;
using kernels::ReferenceNormalizer;
using kernels::ReferenceProblem;

/// One query of width 1 that is 1, so that the keys are the logits; values are 1, 10, 100, ...
struct Toy {
  ReferenceProblem problem;
  ReferenceArrays in;
  explicit Toy(std::vector<double> logits) {
    problem.shape = {1, 1, 1, 1, int(logits.size()), 1, 1, 1};
    problem.scale = 1;
    in = {{1}, logits, {}};
    for (std::size_t n = 0; n < logits.size(); ++n) in[2].push_back(std::pow(10.0, double(n)));
  }
};

TEST(Oracle, SoftmaxByHand) {
  Toy toy({std::log(3.0), 0.0});
  const auto f = reference_forward(toy.problem, toy.in);
  EXPECT_DOUBLE_EQ(f.probs[0], 0.75);
  EXPECT_DOUBLE_EQ(f.out[0], 0.75 + 2.5);
  EXPECT_DOUBLE_EQ(f.stat[0], std::log(4.0));
  EXPECT_DOUBLE_EQ(f.entropy[0], std::log(4.0) - 0.75 * std::log(3.0));
  // out = p v1 + (1 - p) v2, p' = p (1 - p): dx1 = (v1 - v2) 3/16.
  const auto g = reference_backward(toy.problem, toy.in, {1});
  EXPECT_DOUBLE_EQ(g[1][0], -9.0 * 3 / 16);
  EXPECT_DOUBLE_EQ(g[1][1], 9.0 * 3 / 16);
  EXPECT_DOUBLE_EQ(g[2][0], 0.75);
  EXPECT_DOUBLE_EQ(reference_backward(toy.problem, toy.in, {0}, {1})[1][0], 0.75);
  // Entropy of a coin: dH / dp = log((1 - p) / p).
  EXPECT_DOUBLE_EQ(reference_backward(toy.problem, toy.in, {0}, {}, {1})[1][0], -std::log(3.0) * 3 / 16);
}

TEST(Oracle, OtherNormalizersByHand) {
  Toy sink({0.0, 0.0});
  sink.problem.normalizer = ReferenceNormalizer::softmax_with_sink;
  sink.in.push_back({0.0});
  const auto f = reference_forward(sink.problem, sink.in);
  EXPECT_DOUBLE_EQ(f.probs[0], 1.0 / 3);
  EXPECT_DOUBLE_EQ(f.sink[0], 1.0 / 3);
  EXPECT_DOUBLE_EQ(f.entropy[0], std::log(3.0));
  EXPECT_DOUBLE_EQ(reference_backward(sink.problem, sink.in, {1})[3][0], -1.0 / 3 * (11.0 / 3));

  Toy sigmoid({std::log(3.0), 0.0});
  sigmoid.problem.normalizer = ReferenceNormalizer::sigmoid;
  sigmoid.in.push_back({0.0});
  EXPECT_DOUBLE_EQ(reference_forward(sigmoid.problem, sigmoid.in).out[0], 0.75 + 5);

  Toy sparse({1.0, 0.5, -3.0});
  sparse.problem.normalizer = ReferenceNormalizer::sparsemax;
  const auto p = reference_forward(sparse.problem, sparse.in);
  EXPECT_DOUBLE_EQ(p.stat[0], 0.25);
  EXPECT_DOUBLE_EQ(p.probs[0], 0.75);
  EXPECT_DOUBLE_EQ(p.probs[1], 0.25);
  EXPECT_EQ(p.probs[2], 0);
  const auto g = reference_backward(sparse.problem, sparse.in, {1});
  EXPECT_DOUBLE_EQ(g[1][0], 1 - 5.5);
  EXPECT_EQ(g[1][2], 0);
}

TEST(Oracle, RowsThatSeeNothing) {
  Toy toy({1.0, 2.0});
  toy.problem.visible = [](int, int, int, int) { return false; };
  const auto f = reference_forward(toy.problem, toy.in);
  EXPECT_EQ(f.out[0], 0);
  EXPECT_EQ(f.stat[0], -std::numeric_limits<double>::infinity());
  for (const auto& array : reference_backward(toy.problem, toy.in, {1}, {1}, {1})) {
    for (const double g : array) EXPECT_EQ(g, 0);
  }
}

TEST(Oracle, AgreesWithTheFormulaAndTheTape) {
  Generator g(11);
  std::vector<Case> cases = pairwise_cases(g);
  for (const Case& c : cases) {
    const Scenario s = make_scenario(c);
    if (!s.has_oracle) continue;
    const auto forward = reference_forward(s.reference, s.in);
    const formula::Result<double> plain = formula::run(s.plain, s.in);
    EXPECT_LE(error_of(forward.out, plain.out), 1e-13) << s.text();
    EXPECT_LE(error_of(forward.stat, plain.stat), 1e-13) << s.text();
    EXPECT_LE(error_of(forward.entropy, plain.entropy, 1.0), 1e-13) << s.text();
    const auto gradient = reference_backward(s.reference, s.in, s.dout, s.dlse, s.dentropy);
    const auto tape = formula::gradient(s.plain, s.in, s.dout, s.dlse, s.dentropy);
    double largest = 0;
    for (const auto& array : tape) {
      for (const double x : array) largest = std::max(largest, std::abs(x));
    }
    EXPECT_LE(error_of(gradient, tape, largest), 1e-13) << s.text();
  }
}

TEST(Oracle, SaysWhichArrayIsWrong) {
  Toy toy({1.0, 2.0});
  toy.in[1].pop_back();
  try {
    reference_forward(toy.problem, toy.in);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "reference: array 1 of 2 numbers, got 1");
  }
}

}  // namespace
}  // namespace attune::contract
