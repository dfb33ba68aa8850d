// Lambdas of the user's own in the places that the covering set of combinations does not reach: weights of hidden
// pairs, and biases that hide, have no slope somewhere, or learn numbers over many tiles.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "contract/measure.hpp"
#include "contract/run.hpp"
#include "contract/variants/biases.hpp"

namespace attune::contract {
namespace {

template <class T>
void holds(const Scenario& s) {
  const auto forward = expected_forward(s, s.in);
  const auto gradient = expected_gradient(s, s.in, s.dout);
  const auto up = upstream_of<T>(s);
  const auto in = converted<T>(s.in);
  const double bar = forward_bar(T(), largest_logit(s.reference, forward));
  double floor = 0;
  for (const auto& array : gradient) {
    for (const double g : array) floor = std::max(floor, std::abs(g) / 20);
  }
  for (const Result<T>& r : {run_public<T>(s, in, &up), run_tiles<T>(s, in, &up)}) {
    EXPECT_LE(error_of(r.out, forward.out), bar) << s.text();
    EXPECT_LE(error_of(r.lse, forward.stat, 1.0), bar) << s.text();
    EXPECT_LE(error_of(r.gradient, gradient, floor), 5 * bar) << s.text();
  }
}

TEST(Pointwise, HiddenPairsHaveNoWeightWhateverTheFunctionSaysOfZero) {
  Scenario s;
  s.shape = {1, 1, 1, 5, 9, 4, 4, 3};
  for (const Variant& v : normalizers()) {
    if (v.name == "pointwise_probs") v.add(s);
  }
  detail::add_window(s, Causal{}, -1, 0);
  draw_numbers(s);
  const auto up = upstream_of<float>(s);
  auto in = converted<float>(s.in), poisoned = in;
  for (int j = 5; j < 9; ++j) {  // what no query sees
    for (int d = 0; d < 4; ++d) poisoned[1][std::size_t(j * 4 + d)] = std::numeric_limits<float>::quiet_NaN();
    for (int d = 0; d < 3; ++d) poisoned[2][std::size_t(j * 3 + d)] = std::numeric_limits<float>::quiet_NaN();
  }
  const auto clean = run_public<float>(s, in, &up), other = run_public<float>(s, poisoned, &up);
  EXPECT_TRUE(same_bits(clean.out, other.out));
  EXPECT_TRUE(same_bits(clean.gradient, other.gradient));
}

TEST(Pointwise, LearnedNumbersOverManyTiles) {
  Scenario s;
  s.shape = {1, 2, 1, 80, 140, 8, 8, 4};
  detail::add_learned_own(s);
  detail::add_window(s, Causal{}, -1, 0);
  draw_numbers(s);
  holds<double>(s);
  holds<float>(s);
}

/// log x of a hidden logit, which enters as 0: no slope there, and none is asked for.
TEST(Pointwise, NoSlopeOfAHiddenPairIsUsed) {
  Scenario s;
  s.shape = {1, 1, 1, 4, 7, 2, 2, 2};
  s.options.score = SquaredDistance{.scale = -1};
  s.plain.score = formula::squared_distance(-1);
  s.options.bias.push_back(pointwise([](auto x, auto, const auto& p) { return p[0] * log(x); }, {{"times"}}));
  s.plain.bias.push_back([](const formula::Pair&, auto x, auto arrays) { return arrays[0][0] * log(x); });
  s.has_oracle = false;
  detail::add_window(s, Causal{}, -1, 0);
  draw_numbers(s);
  for (double& x : s.in[0]) x += 5;  // no query meets a key: their distance is above 0
  holds<double>(s);
}

/// The way of FlexAttention's score_mod: -inf where a pair is to be hidden. As a mask does it, but every tile is
/// visited.
TEST(Pointwise, MinusInfinityHides) {
  Scenario masked, s;
  for (Scenario* t : {&masked, &s}) {
    t->shape = {1, 2, 2, 70, 140, 6, 6, 3};
    t->random = Generator(3);
  }
  detail::add_window(masked, Causal{}, -1, 0);
  s.options.bias.push_back(pointwise(
      [](auto x, auto at) { return at.key > at.query ? decltype(x)(-std::numeric_limits<double>::infinity()) : x; }));
  draw_numbers(masked);
  draw_numbers(s);
  const auto up = upstream_of<double>(s);
  const auto a = run_public<double>(masked, masked.in, &up), b = run_public<double>(s, s.in, &up);
  EXPECT_LE(error_of(b.out, a.out), 1e-14);
  EXPECT_LE(error_of(b.gradient, a.gradient), 1e-13);
}

}  // namespace
}  // namespace attune::contract
