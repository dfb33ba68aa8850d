// The operator linear_attend: its gradients against differences, both layouts, a text in parts.
#include "attune/autograd/ops/linear_attend.hpp"

#include <gtest/gtest.h>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/reduce.hpp"
#include "attune/autograd/ops/shape.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;

/// Numbers below 0, as gates are.
Tensor gates(const Shape& shape, std::uint64_t seed) {
  Generator g(seed);
  return Tensor::uniform(shape, -0.6, -0.05, g, DType::float64);
}
Tensor betas(const Shape& shape, std::uint64_t seed) {
  Generator g(seed);
  return Tensor::uniform(shape, 0.1, 0.9, g, DType::float64);
}
/// out and state in a row, so that both take part.
Tensor joined(const LinearAttended& a) { return concat({reshape(a.out, {-1}), reshape(a.state, {-1})}, 0); }

TEST(LinearAttendOp, HasRightGradients) {
  const GradcheckOptions small{.taylor_length = 0.1};
  const auto qkv = [](std::initializer_list<Tensor> more) {
    Inputs in = {normal({2, 4, 6, 3}, 1), normal({2, 2, 6, 3}, 2), normal({2, 2, 6, 2}, 3)};
    in.insert(in.end(), more);
    return in;
  };
  expect_gradients(
      [](const Inputs& in) { return joined(linear_attend(in[0], in[1], in[2], {.chunk = 4}, {.state = in[3]})); },
      qkv({normal({2, 2, 3, 2}, 4)}), small);
  expect_gradients(
      [](const Inputs& in) {
        return joined(linear_attend(in[0], in[1], in[2], {.rule = UpdateRule::gated_delta, .chunk = 4},
                                    {.decay = in[3], .beta = in[4], .state = in[5]}));
      },
      qkv({gates({2, 2, 6, 3}, 4), betas({2, 1, 6}, 5), normal({2, 2, 3, 2}, 6)}), small);
  // A result that nobody asks for has no gradient: out alone, state alone.
  expect_gradients(
      [](const Inputs& in) {
        return linear_attend(in[0], in[1], in[2], {.features = features::EluPlusOne{}, .normalize = true}).out;
      },
      qkv({}), small);
  expect_gradients(
      [](const Inputs& in) {
        return linear_attend(in[0], in[1], in[2], {.rule = UpdateRule::delta}, {.beta = in[3]}).state;
      },
      {normal({1, 1, 5, 3}, 1), normal({1, 1, 5, 3}, 2), normal({1, 1, 5, 2}, 3), betas({1, 1, 5}, 4)}, small);
}

TEST(LinearAttendOp, LayoutsAgree) {
  const Tensor q = normal({2, 6, 4, 3}, 1), k = normal({2, 6, 2, 3}, 2), v = normal({2, 6, 2, 2}, 3),
               g = gates({2, 6, 2, 3}, 4), beta = betas({2, 6, 2}, 5);  // [B, T, H, D]
  const LinearAttendOptions o{.rule = UpdateRule::gated_delta};
  Inputs first = {q.clone(), k.clone(), v.clone(), g.clone(), beta.clone()}, second;
  for (Tensor& t : first) second.push_back(t.requires_grad().clone().requires_grad());
  const LinearAttended a = linear_attend(first[0], first[1], first[2], o,
                                         {.decay = first[3], .beta = first[4], .layout = HeadLayout::tokens_first});
  EXPECT_EQ(a.out.shape(), (Shape{2, 6, 4, 2}));
  const auto turned = [&](std::size_t i) { return transpose(second[i], 1, 2); };
  const LinearAttended b = linear_attend(turned(0), turned(1), turned(2), o, {.decay = turned(3), .beta = turned(4)});
  EXPECT_EQ(transpose(b.out, 1, 2).to_vector(), a.out.to_vector());
  EXPECT_EQ(b.state.to_vector(), a.state.to_vector());
  sum(mul(a.out, a.out)).backward();
  sum(mul(b.out, b.out)).backward();
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_LT(error_of(first[i].grad(), second[i].grad()), 1e-14) << i;
}

TEST(LinearAttendOp, ATextInPartsIsTheWhole) {
  const Tensor q = normal({1, 2, 20, 4}, 1), k = normal({1, 2, 20, 4}, 2), v = normal({1, 2, 20, 3}, 3);
  const LinearAttendOptions o{.features = features::EluPlusOne{}, .normalize = true, .chunk = 8};
  Tensor whole = k.clone().requires_grad(), parts = k.clone().requires_grad();
  const LinearAttended a = linear_attend(q, whole, v, o);
  const auto part = [](const Tensor& x, std::int64_t from, std::int64_t n) { return slice(x, 2, from, from + n); };
  const LinearAttended head = linear_attend(part(q, 0, 7), part(parts, 0, 7), part(v, 0, 7), o),
                       tail =
                           linear_attend(part(q, 7, 13), part(parts, 7, 13), part(v, 7, 13), o, {.state = head.state});
  const Tensor joint = concat({head.out, tail.out}, 2);
  EXPECT_LT(error_of(joint, a.out), 1e-13);
  EXPECT_LT(error_of(tail.state, a.state), 1e-13);
  sum(mul(a.out, a.out)).backward();
  sum(mul(joint, joint)).backward();
  EXPECT_LT(error_of(parts.grad(), whole.grad()), 1e-12);
}

TEST(LinearAttendOp, RefusesBadCalls) {
  const Tensor x = normal({1, 2, 4, 3}, 1);
  EXPECT_THROW(linear_attend(x, x, reshape(x, {2, 4, 3})), Error);
  EXPECT_THROW(linear_attend(x, x, x, {.rule = UpdateRule::gated}), Error);
  EXPECT_THROW(linear_attend(x, x, x.to(DType::float32)), Error);
}

}  // namespace
}  // namespace attune
