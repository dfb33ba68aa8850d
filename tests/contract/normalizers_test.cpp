// Normalizers over many tiles of the default size, against their plain formulas; and what each promises by itself:
// ties, order, sums, what a NaN does.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "contract/measure.hpp"
#include "contract/run.hpp"

namespace attune::contract {
namespace {

Scenario many_keys(const Variant& normalizer, int num_queries, int num_keys) {
  Scenario s;
  s.random = Generator(17);
  s.shape = {1, 2, 1, num_queries, num_keys, 6, 6, 3};
  s.options.alignment = Alignment::bottom_right;
  s.reference.offset = {num_keys - num_queries};
  detail::add_window(s, Causal{}, -1, 0);
  normalizer.add(s);
  draw_numbers(s);
  return s;
}

/// Forward and backward in one type, by the bars of the numerical contract.
template <class T>
Result<T> normalizer_is_exact(const Scenario& s, const std::string& name, const kernels::ReferenceForward& want,
                              const Arrays<double>& gradient) {
  const auto up = upstream_of<T>(s);
  const Result<T> r = run_public<T>(s, converted<T>(s.in), &up);
  const double bar = forward_bar(T(), largest_logit(s.reference, want));
  EXPECT_LE(error_of(r.out, want.out), bar) << name;
  EXPECT_LE(error_of(r.lse, want.stat, 1.0), bar) << name;
  double floor = 0;
  for (const auto& array : gradient) {
    for (const double g : array) floor = std::max(floor, std::abs(g) / 20);
  }
  for (std::size_t a = 0; a < gradient.size(); ++a) {
    EXPECT_LE(error_of(r.gradient[a], gradient[a], floor), 5 * bar) << name << " gradient " << a;
  }
  return r;
}

/// And the map of weights.
TEST(Normalizers, AreTheirFormulasOverManyTiles) {
  for (const Variant& v : normalizers()) {
    const Scenario s = many_keys(v, 70, 300);
    const auto want = expected_forward(s, s.in);
    const auto gradient = expected_gradient(s, s.in, s.dout);
    normalizer_is_exact<float>(s, v.name, want, gradient);
    const Result<double> r = normalizer_is_exact<double>(s, v.name, want, gradient);

    std::vector<double> map(want.probs.size());
    const Views<double> views(s.shape, s.options);
    attend_map(views.inputs(s.in), ConstView(r.lse.data(), views.row),
               View(map.data(), {s.shape.batch_size, s.shape.num_heads, s.shape.num_queries, s.shape.num_keys}), {},
               s.options);
    EXPECT_LE(error_of(map, want.probs), 1e-13) << v.name;
  }
}

/// out [queries] of one head whose logits are `logits` [queries][keys] (a dense bias on zeros) and whose values count
/// 1, 10, 100, ...
std::vector<float> out_of(const AnyNormalizer& normalizer, int queries, const std::vector<float>& logits,
                          AttendOptions options = {}) {
  const int keys = int(logits.size()) / queries;
  const std::vector<float> query(std::size_t(queries), 0.f), key(std::size_t(keys), 0.f);
  std::vector<float> value, out(std::size_t(queries), 777.f);
  for (int j = 0; j < keys; ++j) value.push_back(float(std::pow(10.0, j)));
  options.bias = Dense{.per = Per::call};
  options.normalizer = normalizer;
  const Shape q{1, 1, queries, 1}, k{1, 1, keys, 1};
  attend_forward({ConstView(query.data(), q),
                  ConstView(key.data(), k),
                  ConstView(value.data(), k),
                  {ConstView(logits.data(), {queries, keys})}},
                 {.out = View(out.data(), q)}, options);
  return out;
}

TEST(Normalizers, HardTakesTheFirstOfTheLargest) {
  EXPECT_EQ(out_of(Hard{}, 3, {1, 2, 2, 0, 3, 3, 3, 3, -5, -6, -7, -4}), (std::vector<float>{10, 1, 1000}));
  EXPECT_EQ(out_of(Hard{}, 2, {5, 1, 1, 1}, {.mask = Causal{}, .alignment = Alignment::bottom_right}),
            (std::vector<float>{1, 1}));
}
TEST(Normalizers, StickBreakingGivesTheLastKeyFirst) {
  const float inf = std::numeric_limits<float>::infinity();
  // 0 takes half of what is left, infinity all of it.
  EXPECT_EQ(out_of(StickBreaking{}, 3, {0, 0, 0, inf, 0, 0, 0, 0, inf}), (std::vector<float>{52.625f, 52.75f, 100}));
}
TEST(Normalizers, ReluSharesAmongTheKeysThatARowSees) {
  EXPECT_EQ(out_of(Relu{}, 1, {2, -1, 4}), (std::vector<float>{134}));
  const AttendOptions causal{.mask = Causal{}};
  EXPECT_EQ(out_of(Relu{}, 2, {2, 9, 4, 6}, causal), (std::vector<float>{2, 32}));
  EXPECT_EQ(out_of(ReluSquared{}, 2, {2, 9, 4, 6}, causal), (std::vector<float>{4, 188}));
  EXPECT_EQ(out_of(Unnormalized{}, 2, {2, 9, -4, 6}, causal), (std::vector<float>{2, 56}));
}
TEST(Normalizers, ANaNIsNotLostSilently) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const AnyNormalizer& n :
       {AnyNormalizer(SoftmaxOffByOne{}), AnyNormalizer(Sparsemax{}), AnyNormalizer(Entmax15{}), AnyNormalizer(Relu{}),
        AnyNormalizer(ReluSquared{}), AnyNormalizer(Unnormalized{}), AnyNormalizer(Hard{}),
        AnyNormalizer(StickBreaking{})}) {
    const auto out = out_of(n, 2, {1, nan, 2, 1, 3, 2});
    EXPECT_TRUE(std::isnan(out[0])) << n.name();
    EXPECT_FALSE(std::isnan(out[1])) << n.name();
  }
}

}  // namespace
}  // namespace attune::contract
