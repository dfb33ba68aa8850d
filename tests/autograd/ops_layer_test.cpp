// Products, norms, embedding, loss, dropout: values against plain loops, gradients against differences.
#include <gtest/gtest.h>

#include <cmath>

#include "attune/autograd/ops/dropout.hpp"
#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/embedding.hpp"
#include "attune/autograd/ops/loss.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/autograd/ops/norm.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;
using Numbers = std::vector<double>;

/// [M, K] [K, N] by three loops.
Tensor plain_product(const Tensor& a, const Tensor& b) {
  const std::int64_t m = a.shape()[0], k = a.shape()[1], n = b.shape()[1];
  Tensor c = Tensor::zeros({m, n}, DType::float64);
  const auto x = a.to_vector(), y = b.to_vector();
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t l = 0; l < k; ++l)
        c.data<double>()[i * n + j] += x[std::size_t(i * k + l)] * y[std::size_t(l * n + j)];
    }
  }
  return c;
}

TEST(Matmul, AgreesWithLoops) {
  const Tensor a = normal({7, 5}, 1), b = normal({5, 9}, 2), c = plain_product(a, b);
  EXPECT_LT(error_of(matmul(a, b), c), 1e-14);
  EXPECT_LT(error_of(matmul(transpose(a, 0, 1), b, {.transpose_a = true}), c), 1e-14);
  EXPECT_LT(error_of(matmul(a, transpose(b, 0, 1), {.transpose_b = true}), c), 1e-14);
  EXPECT_LT(error_of(matmul(a.to(DType::float32), b.to(DType::float32)), c), 1e-6);
  const Tensor many = concat({reshape(a, {1, 7, 5}), reshape(scale(a, 2), {1, 7, 5})}, 0);
  EXPECT_LT(error_of(matmul(many, b), concat({reshape(c, {1, 7, 9}), reshape(scale(c, 2), {1, 7, 9})}, 0)), 1e-14);
  EXPECT_THROW(matmul(a, a), Error);
  EXPECT_THROW(matmul(many, normal({3, 5, 9}, 1)), Error);
}

TEST(Matmul, HasRightGradients) {
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      const MatmulOptions o{ta, tb};
      const auto f = [o](const Inputs& in) { return matmul(in[0], in[1], o); };
      const Shape a = ta ? Shape{4, 3} : Shape{3, 4}, b = tb ? Shape{5, 4} : Shape{4, 5};
      expect_gradients(f, {normal(a, 1), normal(b, 2)});
      const Shape a3{2, a[0], a[1]}, b3{2, b[0], b[1]};
      expect_gradients(f, {normal(a3, 1), normal(b3, 2)});
      expect_gradients(f, {normal(a3, 1), normal(b, 2)});  // b serves all
      // Used twice: the second gradient is added.
      expect_gradients([o](const Inputs& in) { return matmul(in[0], in[1], o) + matmul(in[0] * 2.0, in[1], o); },
                       {normal(a3, 1), normal(b, 2)});
    }
  }
}

TEST(Linear, IsTheCompositionOfItsParts) {
  const Tensor x = normal({2, 3, 5}, 1), w = normal({4, 5}, 2), b = normal({4}, 3);
  const Tensor u = matmul(x, w, {.transpose_b = true}) + b;
  for (Activation f : {Activation::none, Activation::relu, Activation::gelu, Activation::silu}) {
    EXPECT_LT(error_of(linear(x, w, b, f), activate(u, f)), 1e-14) << name_of(f);
    Tensor far = scale(b, 1, 0);
    expect_gradients([f](const Inputs& in) { return linear(in[0], in[1], in[2], f); },
                     {x.clone(), w.clone(), far.clone()}, {.taylor_length = 0.02});
  }
  expect_gradients([](const Inputs& in) { return linear(in[0], in[1]) + linear(in[0], in[1]); },
                   {x.clone(), w.clone()});
  EXPECT_THROW(linear(x, normal({4, 6}, 1)), Error);
  EXPECT_THROW(linear(x, w, normal({5}, 1)), Error);
}

TEST(Norm, AgreesWithLoops) {
  const Tensor x = normal({4, 6}, 1), w = normal({6}, 2), b = normal({6}, 3);
  const Tensor mu = mean(x, 1, true), centred = x - mu;
  const Tensor y = centred / sqrt(mean(mul(centred, centred), 1, true) + 1e-5) * w + b;
  EXPECT_LT(error_of(layer_norm(x, w, b), y), 1e-13);
  EXPECT_LT(error_of(rms_norm(x, w), x / sqrt(mean(mul(x, x), 1, true) + 1e-6) * w), 1e-13);
  EXPECT_LT(error_of(layer_norm(x.to(DType::float32), w.to(DType::float32), b.to(DType::float32)), y), 1e-5);
  EXPECT_THROW(layer_norm(x, normal({5}, 1), {}), Error);
}

TEST(Norm, HasRightGradients) {
  const Tensor x = normal({3, 6}, 1), w = normal({6}, 2), b = normal({6}, 3);
  const GradcheckOptions small{.taylor_length = 0.2};
  expect_gradients([](const Inputs& in) { return layer_norm(in[0], in[1], in[2]); }, {x.clone(), w.clone(), b.clone()},
                   small);
  expect_gradients([](const Inputs& in) { return layer_norm(in[0], {}, {}); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return rms_norm(in[0], in[1]); }, {x.clone(), w.clone()}, small);
  expect_gradients([](const Inputs& in) { return rms_norm(in[0], {}) + layer_norm(in[0], in[1], {}) + in[0]; },
                   {x.clone(), w.clone()}, small);
}

TEST(EmbeddingOp, GathersAndScatters) {
  const Tensor table = normal({5, 3}, 1);
  const Ids ids({4, 0, 4, 2}, {2, 2});
  const Tensor y = embedding(ids, table, 2);
  EXPECT_EQ(y.shape(), (Shape{2, 2, 3}));
  for (int t = 0; t < 4; ++t) {
    for (int c = 0; c < 3; ++c)
      EXPECT_EQ(y.to_vector()[std::size_t(t * 3 + c)], 2 * table.to_vector()[std::size_t(ids[t] * 3 + c)]);
  }
  expect_gradients(
      [&](const Inputs& in) {
        const Tensor e = embedding(ids, in[0], 2);
        return mul(e, e);
      },
      {table.clone()});
  EXPECT_THROW(embedding(Ids({5}), table), Error);
  EXPECT_THROW(embedding(Ids({-1}), table), Error);
}

TEST(CrossEntropy, AgreesWithItsFormula) {
  const Tensor x = normal({4, 6}, 1);
  const Ids labels({2, -100, 5, 0});
  const Tensor logp = log_softmax(x);
  const auto lp = logp.to_vector();
  const double eps = 0.1;
  double total = 0;
  for (std::int64_t r : {0, 2, 3}) {
    double row = -(1 - eps) * lp[std::size_t(r * 6 + labels[r])];
    for (int v = 0; v < 6; ++v) row -= eps / 6 * lp[std::size_t(r * 6 + v)];
    total += row;
  }
  EXPECT_NEAR(cross_entropy(x, labels, {.label_smoothing = eps}).item(), total / 3, 1e-14);
  EXPECT_NEAR(cross_entropy(x, labels, {.label_smoothing = eps, .reduction = Reduction::sum}).item(), total, 1e-13);
  EXPECT_NEAR(cross_entropy(x.to(DType::float32), labels, {.label_smoothing = eps}).item(), total / 3, 1e-6);
  EXPECT_EQ(cross_entropy(x, Ids({-100, -100, -100, -100})).item(), 0);
  EXPECT_THROW(cross_entropy(x, Ids({0, 1, 2, 6})), Error);
  EXPECT_THROW(cross_entropy(x, Ids({0, 1, 2})), Error);
}

TEST(CrossEntropy, HasRightGradients) {
  const Ids labels({2, -100, 5, 0});
  for (double eps : {0.0, 0.1}) {
    expect_gradients([=](const Inputs& in) { return cross_entropy(in[0], labels, {.label_smoothing = eps}); },
                     {normal({4, 6}, 1)});
    // Given away: the gradient is made in the memory of the logits.
    expect_gradients(
        [=](const Inputs& in) { return cross_entropy(linear(in[0], in[1]), labels, {.label_smoothing = eps}) * 3.0; },
        {normal({4, 3}, 1), normal({6, 3}, 2)});
  }
  expect_gradients(
      [=](const Inputs& in) {
        return cross_entropy(in[0], labels, {.label_smoothing = 0.1, .z_loss = 0.3, .reduction = Reduction::sum});
      },
      {normal({4, 6}, 1)});
  EXPECT_THROW(cross_entropy(normal({4, 6}, 1), labels, {.z_loss = -1}), Error);
  const Tensor x = normal({4, 6}, 1).requires_grad(), before = x.clone();
  cross_entropy(x, labels).backward();
  EXPECT_EQ(x.to_vector(), before.to_vector());  // a leaf is never overwritten
  expect_gradients([](const Inputs& in) { return mean_squared_error(in[0], in[1]); }, {normal({5}, 1), normal({5}, 2)});
}

TEST(DropoutOp, IsAFunctionOfItsSeed) {
  const Tensor x = Tensor::ones({100, 100});
  const Tensor y = dropout(x, 0.25, 7);
  EXPECT_EQ(y.to_vector(), dropout(x, 0.25, 7).to_vector());
  EXPECT_NE(y.to_vector(), dropout(x, 0.25, 8).to_vector());
  const auto v = y.to_vector();
  EXPECT_NEAR(double(std::count(v.begin(), v.end(), 0.0)) / double(v.size()), 0.25, 0.02);
  EXPECT_NEAR(mean(y).item(), 1, 0.02);
  EXPECT_TRUE(dropout(x, 0, 7).is(x));
  Generator g(1);
  dropout(x, 0.5, g);
  EXPECT_EQ(g.position(), 2u);
  dropout(x, 0, g);
  EXPECT_EQ(g.position(), 2u);
  EXPECT_THROW(dropout(x, 1, 7), Error);
  EXPECT_THROW(dropout(x, -0.1, 7), Error);
  EXPECT_EQ(add_dropout(x, x, 0.25, 7).to_vector(), (x + y).to_vector());
}

TEST(DropoutOp, HasRightGradients) {
  const Tensor x = normal({6, 7}, 1), h = normal({6, 7}, 2);
  expect_gradients([](const Inputs& in) { return mul(dropout(in[0], 0.3, 5), in[0]); }, {x.clone()});
  expect_gradients(
      [](const Inputs& in) {
        const Tensor y = add_dropout(in[0], in[1], 0.3, 5);
        return mul(y, y);
      },
      {x.clone(), h.clone()});
  expect_gradients(
      [](const Inputs& in) {
        const Tensor y = add_dropout(in[0], in[0], 0.3, 5);
        return mul(y, y);
      },
      {x.clone()});
}

TEST(LayerOperators, HaveEqualBitsForAnyThreads) {
  expect_equal_bits_for_any_threads([] {
    Tensor x = normal({301, 64}, 1, DType::float32).requires_grad(),
           w = normal({130, 64}, 2, DType::float32).requires_grad();
    Tensor b = normal({130}, 3, DType::float32).requires_grad(), g = normal({130}, 4, DType::float32).requires_grad();
    Tensor table = normal({20, 64}, 5, DType::float32).requires_grad();
    std::vector<std::int32_t> ids, labels;
    for (int i = 0; i < 301; ++i) ids.push_back(i * 7 % 20), labels.push_back(i % 130);
    const Tensor u = add_dropout(x, embedding(Ids(ids), table), 0.1, 3);
    Tensor y = rms_norm(layer_norm(linear(u, w, b, Activation::gelu), g, b), g);
    const Tensor loss = cross_entropy(y, Ids(labels), {.label_smoothing = 0.1});
    loss.backward();
    return Inputs{loss, x.grad(), w.grad(), b.grad(), g.grad(), table.grad()};
  });
}

}  // namespace
}  // namespace attune
