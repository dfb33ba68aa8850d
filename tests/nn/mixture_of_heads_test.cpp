// MixtureOfHeads against plain loops, its gradients, its losses, its padding.
#include "attune/nn/mixture_of_heads.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"
#include "nn/plain_loops.hpp"

namespace attune::nn {
namespace {

using namespace testing_support;

MixtureOfHeadsOptions five_experts(HeadShare share) {
  return {.model_dim = 6, .num_experts = 5, .num_active = 2, .head_dim = 3, .share = share};
}
void shake_experts(MixtureOfHeads& m) {
  m.to(DType::float64);
  std::uint64_t seed = 120;
  for (NamedTensor p : m.named_parameters()) p.tensor.copy_from(normal(p.tensor.shape(), ++seed));
}

/// Every expert everywhere, then the sum of the chosen ones. One entry of `valid` tokens.
Table experts_by_loops(const MixtureOfHeads& m, Table x, int valid, const Visible& visible,
                       std::vector<std::int64_t>* counts = nullptr) {
  x.resize(std::size_t(valid));
  const auto& o = m.options();
  const std::int64_t d = o.head_dim, c = o.model_dim;
  const Table p = softmax_rows(project(x, m.weight_router), all_visible), kv = project(x, m.weight_key_value);
  Table out(x.size(), std::vector<double>(std::size_t(c), 0));
  std::vector<Table> heads;
  for (std::int64_t e = 0; e < o.num_experts; ++e) {
    const Table q = project(x, m.weight_query, {}, e * d, d);
    heads.push_back(project(attended(q, columns(kv, 0, d), columns(kv, d, d), visible), m.weight_out, {}, e * c, c));
  }
  for (std::size_t t = 0; t < x.size(); ++t) {
    std::vector<std::size_t> by_size(std::size_t(o.num_experts));
    std::iota(by_size.begin(), by_size.end(), 0u);
    std::stable_sort(by_size.begin(), by_size.end(), [&](std::size_t a, std::size_t b) { return p[t][a] > p[t][b]; });
    double chosen = 0;
    for (std::size_t s = 0; s < std::size_t(o.num_active); ++s) chosen += p[t][by_size[s]];
    for (std::size_t s = 0; s < std::size_t(o.num_active); ++s) {
      const double share = p[t][by_size[s]] / (o.share == HeadShare::plain ? 1 : chosen);
      for (std::size_t i = 0; i < std::size_t(c); ++i) out[t][i] += share * heads[by_size[s]][t][i];
      if (counts != nullptr) ++(*counts)[by_size[s]];
    }
  }
  return out;
}

TEST(MixtureOfHeads, EqualsPlainLoops) {
  for (HeadShare share : {HeadShare::plain, HeadShare::of_chosen, HeadShare::detached}) {
    MixtureOfHeadsOptions o = five_experts(share);
    o.mask = Causal{};
    MixtureOfHeads m(o);
    shake_experts(m);
    const Tensor x = normal({2, 6, 6}, 121), y = m(x);
    for (int b : {0, 1}) expect_table(y, b, experts_by_loops(m, table(x, b), 6, causal_visible));
  }
}

TEST(MixtureOfHeads, HidesPaddingAndLeavesItOutOfTheLosses) {
  MixtureOfHeads m(five_experts(HeadShare::detached));
  shake_experts(m);
  Tensor x = normal({2, 5, 6}, 122);
  for (int i = 3 * 6; i < 5 * 6; ++i) x.data<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  const std::vector<int> valid{3, 5};
  const MixtureResult r = m.attend_to(x, {.valid_keys = valid});
  std::vector<std::int64_t> counts(5, 0);
  std::vector<double> mean(5, 0);
  double z = 0;
  for (int b : {0, 1}) {
    const int n = valid[std::size_t(b)];
    Table expected = experts_by_loops(m, table(x, b), n, all_visible, &counts);
    expected.resize(5, std::vector<double>(6, 0));
    expect_table(r.out, b, expected, n);
    Table logits = project(table(x, b), m.weight_router);
    logits.resize(std::size_t(n));
    for (const auto& row : softmax_rows(logits, all_visible)) {
      for (std::size_t e = 0; e < 5; ++e) mean[e] += row[e] / 8;
    }
    for (const auto& row : logits) {
      double sum = 0;
      for (double v : row) sum += std::exp(v);
      z += std::log(sum) * std::log(sum) / 8;
    }
  }
  EXPECT_EQ(r.chosen, counts);
  double balance = 0;
  for (std::size_t e = 0; e < 5; ++e) balance += 5 * mean[e] * double(counts[e]) / 16;
  EXPECT_NEAR(r.balance_loss.item(), balance, 1e-12);
  EXPECT_NEAR(r.z_loss.item(), z, 1e-12 * z);
}

TEST(MixtureOfHeads, HasRightGradients) {
  for (HeadShare share : {HeadShare::plain, HeadShare::of_chosen}) {
    MixtureOfHeads m(five_experts(share));
    shake_experts(m);
    Inputs in = m.parameters();
    in.push_back(normal({2, 4, 6}, 123));
    expect_gradients(  // out and both losses, so that the choices that are made hold within the steps
        [&](const Inputs& all) {
          const MixtureResult r = m.attend_to(all.back(), {.valid_keys = {4, 3}});
          return concat({reshape(r.out, {48}), reshape(r.balance_loss, {1}), reshape(r.z_loss, {1})}, 0);
        },
        in, {.most_elements = 40, .taylor_length = 0.003});
  }
}

TEST(MixtureOfHeads, DetachedSharesTakeTheirDivisorAsAConstant) {
  // d(p / c) with c constant is d(p) / c: with one active head, share 1 and a router that still learns.
  MixtureOfHeadsOptions o = five_experts(HeadShare::plain);
  o.num_active = 1;
  MixtureOfHeads plain(o);
  o.share = HeadShare::detached;
  MixtureOfHeads detached(o);
  shake_experts(plain), shake_experts(detached);
  const Tensor x = normal({1, 1, 6}, 124), w = normal({1, 1, 6}, 125);
  const Tensor y = detached(x), z = plain(x);
  sum(y * w).backward();
  sum(z * w).backward();
  const double p = z.to_vector()[0] / y.to_vector()[0];  // the probability
  EXPECT_LT(error_of(scale(detached.weight_router.grad(), p), plain.weight_router.grad()), 1e-12);
  EXPECT_GT(error_of(detached.weight_router.grad(), Tensor::zeros({5, 6}, DType::float64)), 0);
}

TEST(MixtureOfHeads, NamesItsParametersAndRefusesBadOptions) {
  std::vector<std::string> names;
  for (const NamedTensor& p : MixtureOfHeads(five_experts(HeadShare::plain)).named_parameters()) {
    names.push_back(p.name + " " + p.tensor.shape().text());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"weight_router [5, 6]", "weight_query [15, 6]", "weight_key_value [6, 6]",
                                             "weight_out [30, 3]"}));
  EXPECT_THROW(MixtureOfHeads({.model_dim = 6, .num_experts = 2, .num_active = 3}), Error);
  EXPECT_THROW(MixtureOfHeads({.model_dim = 6}), Error);
}

}  // namespace
}  // namespace attune::nn
