// Arithmetic, activations, reductions and moves: values against loops, gradients against differences.
#include <gtest/gtest.h>

#include <cmath>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;
using Numbers = std::vector<double>;

TEST(Arithmetic, Broadcasts) {
  const Tensor a = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}), row = Tensor::from({10, 20, 30}, {3});
  const Tensor column = Tensor::from({100, 200}, {2, 1}), one = Tensor::from({1000}, {});
  EXPECT_EQ((a + row).to_vector(), (Numbers{11, 22, 33, 14, 25, 36}));
  EXPECT_EQ((a * column).to_vector(), (Numbers{100, 200, 300, 800, 1000, 1200}));
  EXPECT_EQ((one - a).to_vector(), (Numbers{999, 998, 997, 996, 995, 994}));
  EXPECT_EQ((column + row).shape(), (Shape{2, 3}));
  EXPECT_EQ((a / row).to_vector()[5], double(6.0f / 30.0f));
  EXPECT_EQ((a * 2.0 - 1.0).to_vector(), (Numbers{1, 3, 5, 7, 9, 11}));
}

TEST(Arithmetic, HasRightGradients) {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{3, 4}, {3, 4}}, {{2, 3, 4}, {4}}, {{3, 1}, {2, 3, 5}}, {{}, {3, 2}}, {{2, 1, 3}, {4, 1}}};
  for (const auto& [sa, sb] : shapes) {
    const Tensor a = normal(sa, 1), b = normal(sb, 2);
    Tensor far = scale(b, 0.1, 3);
    expect_gradients([](const Inputs& in) { return in[0] + in[1]; }, {a.clone(), b.clone()});
    expect_gradients([](const Inputs& in) { return in[0] - in[1]; }, {a.clone(), b.clone()});
    expect_gradients([](const Inputs& in) { return in[0] * in[1]; }, {a.clone(), b.clone()});
    expect_gradients([](const Inputs& in) { return in[0] / in[1]; }, {a.clone(), far.clone()});
  }
  expect_gradients([](const Inputs& in) { return scale(mul(in[0], in[0]), 3, 1); }, {normal({5}, 3)});
}

TEST(Activations, HaveRightValues) {
  const Tensor x = Tensor::from({-3, -0.5, 0, 0.25, 4}, {5}, DType::float64);
  const auto expect = [&](const Tensor& y, auto f) {
    for (std::int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y.data<double>()[i], f(x.data<double>()[i]), 1e-14);
    const Tensor y32 = y.to(DType::float32);
    EXPECT_EQ(y32.dtype(), DType::float32);
  };
  expect(exp(x), [](double v) { return std::exp(v); });
  expect(tanh(x), [](double v) { return std::tanh(v); });
  expect(sigmoid(x), [](double v) { return 1 / (1 + std::exp(-v)); });
  expect(relu(x), [](double v) { return std::max(v, 0.0); });
  expect(silu(x), [](double v) { return v / (1 + std::exp(-v)); });
  expect(gelu(x), [](double v) { return v * 0.5 * (1 + std::erf(v / std::sqrt(2.0))); });
  EXPECT_TRUE(std::isnan(relu(Tensor::from({NAN}, {1})).item()));
  EXPECT_EQ(sigmoid(Tensor::from({-1000, 1000}, {2})).to_vector(), (Numbers{0, 1}));
}

TEST(Activations, AgreeInFloat32) {
  const Tensor x = scale(normal({1000}, 4), 3);
  const Tensor f = x.to(DType::float32), d = f.to(DType::float64);
  EXPECT_LT(error_of(exp(f), exp(d)), 1e-6);
  EXPECT_LT(error_of(tanh(f), tanh(d)), 1e-6);
  EXPECT_LT(error_of(sigmoid(f), sigmoid(d)), 1e-6);
  EXPECT_LT(error_of(silu(f), silu(d)), 1e-6);
  EXPECT_LT(error_of(gelu(f), gelu(d)), 1e-6);
}

TEST(Activations, HaveRightGradients) {
  Tensor x = normal({4, 5}, 5);
  for (double& v : std::span(x.data<double>(), std::size_t(x.size()))) v += v < 0 ? -0.3 : 0.3;  // away from kinks
  const GradcheckOptions small{.taylor_length = 0.3};
  expect_gradients([](const Inputs& in) { return exp(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return tanh(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return sigmoid(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return relu(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return silu(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return gelu(in[0]); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return log(exp(in[0])); }, {x.clone()}, small);
  expect_gradients([](const Inputs& in) { return sqrt(exp(in[0])); }, {x.clone()}, small);
  // Two uses, so the second adds to the first.
  expect_gradients([](const Inputs& in) { return tanh(in[0]) + silu(in[0]); }, {x.clone()}, small);
}

TEST(Activations, HaveNames) {
  EXPECT_EQ(activation_from_name("gelu"), Activation::gelu);
  EXPECT_EQ(name_of(Activation::silu), "silu");
  EXPECT_THROW(activation_from_name("swish"), Error);
}

TEST(Softmax, IsExactAndStable) {
  const Tensor y = softmax(Tensor::from({1000, 1001, -1000, 0, 0, 0}, {2, 3}, DType::float64));
  const double p = 1 / (1 + std::exp(1.0));
  EXPECT_NEAR(y.to_vector()[0], p, 1e-15);
  EXPECT_NEAR(y.to_vector()[1], 1 - p, 1e-15);
  EXPECT_EQ(y.to_vector()[2], 0);
  EXPECT_NEAR(y.to_vector()[4], 1.0 / 3, 1e-15);
  EXPECT_NEAR(log_softmax(Tensor::from({0, 800}, {2})).to_vector()[0], -800, 1e-4);
  const GradcheckOptions small{.taylor_length = 0.3};
  expect_gradients([](const Inputs& in) { return softmax(in[0]); }, {normal({3, 7}, 1)}, small);
  expect_gradients([](const Inputs& in) { return log_softmax(in[0]); }, {normal({3, 7}, 1)}, small);
}

TEST(Reduce, SumsMeansAndMaxima) {
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(sum(x).item(), 21);
  EXPECT_EQ(mean(x).item(), 3.5);
  EXPECT_EQ(sum(x, 0).to_vector(), (Numbers{5, 7, 9}));
  EXPECT_EQ(mean(x, -1, true).shape(), (Shape{2, 1}));
  EXPECT_EQ(max(x, 1).to_vector(), (Numbers{3, 6}));
  EXPECT_THROW(sum(x, 2), Error);
  EXPECT_THROW(mean(Tensor::zeros({0})), Error);
  const auto squared = [](const Tensor& t) { return mul(t, t); };
  expect_gradients([&](const Inputs& in) { return sum(squared(in[0])); }, {normal({3, 4}, 1)});
  expect_gradients([&](const Inputs& in) { return mean(squared(in[0])) + sum(in[0]); }, {normal({3, 4}, 1)});
  expect_gradients([&](const Inputs& in) { return sum(squared(in[0]), 1) + mean(in[0], 1); }, {normal({2, 3, 4}, 1)});
  expect_gradients([&](const Inputs& in) { return squared(max(in[0], 2)); }, {normal({2, 3, 4}, 1)},
                   {.taylor_length = 0.01});
}

TEST(Moves, KeepNumbersTogether) {
  const Tensor x = normal({2, 3, 8}, 1, DType::float32);
  EXPECT_EQ(reshape(x, {6, -1}).shape(), (Shape{6, 8}));
  EXPECT_EQ(reshape(x, {6, -1}).raw(), x.raw());
  EXPECT_THROW(reshape(x, {7, -1}), Error);
  EXPECT_THROW(reshape(x, Shape{5}), Error);
  EXPECT_EQ(static_cast<char*>(slice(x, 0, 1, 2).raw()) - static_cast<char*>(x.raw()), 96);
  EXPECT_EQ(concat({slice(x, 2, 0, 3), slice(x, 2, 3, 8)}, 2).to_vector(), x.to_vector());
  EXPECT_EQ(concat({slice(x, 1, 0, 2), slice(x, 1, 2, 3)}, 1).to_vector(), x.to_vector());
  EXPECT_EQ(merge_heads(split_heads(x, 4)).to_vector(), x.to_vector());
  EXPECT_EQ(split_heads(x, 4).shape(), (Shape{2, 4, 3, 2}));
  EXPECT_EQ(transpose(transpose(x, 0, 2), 0, 2).to_vector(), x.to_vector());
  EXPECT_EQ(take_rows(x, Ids({1, 0})).to_vector(), concat({slice(x, 0, 1, 2), slice(x, 0, 0, 1)}, 0).to_vector());
  EXPECT_THROW(slice(x, 1, 2, 4), Error);
  EXPECT_THROW(split_heads(x, 3), Error);
  EXPECT_THROW(take_rows(x, Ids({2})), Error);
  EXPECT_THROW(concat({x, slice(x, 1, 0, 2)}, 2), Error);
}

TEST(Moves, HaveRightGradients) {
  const Tensor x = normal({2, 3, 4}, 1), y = normal({2, 2, 4}, 2);
  const auto squared = [](const Tensor& t) { return mul(t, t); };
  expect_gradients([&](const Inputs& in) { return squared(reshape(in[0], {4, 6})); }, {x.clone()});
  expect_gradients([&](const Inputs& in) { return squared(slice(in[0], 1, 1, 3)) + slice(in[0], 1, 0, 2); },
                   {x.clone()});
  expect_gradients([&](const Inputs& in) { return squared(slice(in[0], 0, 1, 2)); }, {x.clone()});
  expect_gradients([&](const Inputs& in) { return squared(concat({in[0], in[1], in[0]}, 1)); }, {x.clone(), y.clone()});
  expect_gradients([&](const Inputs& in) { return squared(transpose(in[0], 0, 2)); }, {x.clone()});
  expect_gradients([&](const Inputs& in) { return squared(merge_heads(tanh(split_heads(in[0], 2)))); }, {x.clone()},
                   {.taylor_length = 0.3});
  expect_gradients([&](const Inputs& in) { return squared(take_rows(in[0], Ids({1, 1, 0}))); }, {x.clone()});
}

TEST(BasicOperators, HaveEqualBitsForAnyThreads) {
  expect_equal_bits_for_any_threads([] {
    Tensor x = normal({300, 257}, 1, DType::float32).requires_grad(),
           r = normal({257}, 2, DType::float32).requires_grad();
    const Tensor y = softmax(gelu(x * r) + r);
    sum(mul(y, y)).backward();
    return std::vector<Tensor>{y, sum(y), sum(y, 0), x.grad(), r.grad()};
  });
}

}  // namespace
}  // namespace attune
