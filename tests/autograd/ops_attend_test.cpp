// The operator attend: against a composition of products and softmax, its gradients against differences, both layouts.
#include "attune/autograd/ops/attend.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attune/attention/bias/all.hpp"
#include "attune/attention/mask/all.hpp"
#include "attune/attention/normalize/all.hpp"
#include "attune/attention/score/all.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;

/// softmax(q k^T / sqrt(D) + mask) v by single operators, [B, H, T, D].
Tensor composed(const Tensor& q, const Tensor& k, const Tensor& v, bool causal) {
  Tensor s = scale(matmul(q, k, {.transpose_b = true}), 1 / std::sqrt(double(q.shape()[3])));
  if (causal) {
    Tensor hidden = Tensor::zeros({q.shape()[2], k.shape()[2]}, q.dtype());
    for (std::int64_t i = 0; i < hidden.shape()[0]; ++i) {
      for (std::int64_t j = i + 1; j < hidden.shape()[1]; ++j) {
        hidden.data<double>()[i * hidden.shape()[1] + j] = -std::numeric_limits<double>::infinity();
      }
    }
    s = s + hidden;
  }
  return matmul(softmax(s), v);
}

TEST(AttendOp, IsTheComposition) {
  for (bool causal : {false, true}) {
    Inputs in = {normal({2, 3, 9, 5}, 1), normal({2, 3, 9, 5}, 2), normal({2, 3, 9, 4}, 3)}, other;
    for (Tensor& t : in) other.push_back(t.requires_grad().clone().requires_grad());
    AttendOptions o;
    if (causal) o.mask = Causal{};
    const Tensor a = attend(in[0], in[1], in[2], o).out, b = composed(other[0], other[1], other[2], causal);
    EXPECT_LT(error_of(a, b), 1e-13);
    sum(mul(a, a)).backward();
    sum(mul(b, b)).backward();
    for (int i = 0; i < 3; ++i)
      EXPECT_LT(error_of(in[std::size_t(i)].grad(), other[std::size_t(i)].grad()), 1e-12) << i;
  }
}

TEST(AttendOp, LayoutsAgree) {
  const Tensor q = normal({2, 6, 4, 5}, 1), k = normal({2, 7, 2, 5}, 2), v = normal({2, 7, 2, 3}, 3);  // [B, T, H, D]
  const Tensor first = attend(transpose(q, 1, 2), transpose(k, 1, 2), transpose(v, 1, 2)).out;
  const Tensor tokens = attend(q, k, v, {}, {.layout = HeadLayout::tokens_first}).out;
  EXPECT_EQ(tokens.shape(), (Shape{2, 6, 4, 3}));
  EXPECT_EQ(transpose(first, 1, 2).to_vector(), tokens.to_vector());
  const Tensor kv = concat({reshape(k, {2, 7, 10}), reshape(v, {2, 7, 6})}, 2);
  const Tensor packed = attend_packed({reshape(q, {2, 6, 20}), 0, 4, 5}, {kv, 0, 2, 5}, {kv, 10, 2, 3}).out;
  EXPECT_EQ(packed.shape(), (Shape{2, 6, 12}));
  EXPECT_EQ(packed.to_vector(), tokens.to_vector());
  EXPECT_THROW(attend_packed({reshape(q, {2, 6, 20}), 1, 4, 5}, {kv, 0, 2, 5}, {kv, 10, 2, 3}), Error);
  EXPECT_THROW(attend(q, k, reshape(v, {2, 7, 6})), Error);
}

TEST(AttendOp, HasRightGradients) {
  const GradcheckOptions small{.taylor_length = 0.2};
  const Inputs qkv = {normal({1, 2, 5, 4}, 1), normal({1, 1, 6, 4}, 2), normal({1, 1, 6, 3}, 3)};
  const auto copies = [&](Inputs more = {}) {
    Inputs all;
    for (const Tensor& t : qkv) all.push_back(t.clone());
    for (Tensor& t : more) all.push_back(std::move(t));
    return all;
  };
  const auto out = [](const Inputs& in, AttendOptions o, AttendExtras e = {}) {
    e.parameters.assign(in.begin() + 3, in.end());
    return attend(in[0], in[1], in[2], o, e).out;
  };
  expect_gradients([&](const Inputs& in) { return out(in, {}); }, copies(), small);
  expect_gradients([&](const Inputs& in) { return out(in, {.mask = Causal{}, .dropout_p = 0.3, .seed = 4}); }, copies(),
                   small);
  expect_gradients([&](const Inputs& in) { return out(in, {.bias = Alibi{.learned = true}}); },
                   copies({normal({2}, 4)}), small);
  expect_gradients(
      [&](const Inputs& in) { return out(in, {.bias = SoftCap{.cap = 2}, .normalizer = SoftmaxWithSink{}}); },
      copies({normal({2}, 4)}), small);
  expect_gradients([&](const Inputs& in) { return out(in, {.score = Additive{.hidden_dim = 3}}); },
                   copies({normal({2, 3, 4}, 4), normal({1, 3, 4}, 5), normal({2, 3}, 6)}), small);
  // lse and entropy are results like any other.
  expect_gradients(
      [](const Inputs& in) {
        const Attended a = attend(in[0], in[1], in[2], {}, {.lse = true, .entropy = true});
        return concat({reshape(a.out, {-1}), reshape(a.lse, {-1}), reshape(a.entropy, {-1})}, 0);
      },
      copies(), small);
  expect_gradients([](const Inputs& in) { return attend(in[0], in[1], in[2], {}, {.lse = true}).lse; }, copies(),
                   small);
  // One packed tensor for all three.
  expect_gradients(
      [](const Inputs& in) {
        return attend_packed({in[0], 0, 2, 3}, {in[0], 6, 2, 3}, {in[0], 12, 2, 2}, {.mask = Causal{}}).out;
      },
      {normal({2, 4, 16}, 7)}, small);
}

TEST(AttendOp, GivesWeightsAndStatistics) {
  const Tensor q = normal({2, 2, 4, 3}, 1), k = normal({2, 2, 5, 3}, 2);
  const Attended a = attend(q, k, k, {.mask = Padding{{5, 2}}}, {.statistics = true, .weights = true});
  EXPECT_EQ(a.weights.shape(), (Shape{2, 2, 4, 5}));
  for (double row : sum(a.weights, 3).to_vector()) EXPECT_NEAR(row, 1, 1e-14);
  EXPECT_EQ(a.weights.to_vector().back(), 0);
  EXPECT_LT(error_of(matmul(a.weights, k), a.out), 1e-13);
  EXPECT_EQ(a.statistics.entropy.size(), 4u);
  EXPECT_EQ(attend(q, k, k, {.mask = Padding{{5, 2}}}).out.to_vector(), a.out.to_vector());
}

TEST(AttendOp, SaysHowItRuns) {
  const Tensor x = normal({1, 2, 8, 4}, 1, DType::float32);
  EXPECT_EQ(explain(x, x, x, {.mask = Causal{}}).path, "plain");
  EXPECT_EQ(explain(x, x, x, {.bias = Alibi{}}).path, "stages");
}

TEST(AttendOp, HasEqualBitsForAnyThreads) {
  expect_equal_bits_for_any_threads([] {
    Tensor x = normal({3, 70, 3 * 32}, 1, DType::float32).requires_grad();
    const Tensor y =
        attend_packed({x, 0, 4, 8}, {x, 32, 4, 8}, {x, 64, 4, 8}, {.mask = Causal{}, .dropout_p = 0.1, .seed = 3}).out;
    sum(mul(y, y)).backward();
    return Inputs{y, x.grad()};
  });
}

}  // namespace
}  // namespace attune
