// gradcheck accepts right gradients and rejects wrong ones, however small the error.
#include "attune/autograd/gradcheck.hpp"

#include <gtest/gtest.h>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/tape.hpp"
#include "attune/base/error.hpp"

namespace attune {
namespace {

/// x^2 whose backward is off by a factor.
Tensor square(const Tensor& x, double factor) {
  Tensor y = mul(x.detach(), x.detach());
  record("square", y, {x}, [=, x = x.detach()](Backward& b) { b.give(0, scale(mul(b.dout(), x), 2 * factor)); });
  return y;
}

TEST(Gradcheck, TellsRightFromWrong) {
  Generator g(1);
  const Tensor x = Tensor::randn({3, 4}, g, DType::float64);
  const auto right = gradcheck([](const std::vector<Tensor>& in) { return square(in[0], 1); }, {x.clone()});
  EXPECT_TRUE(right.passed) << right.text;
  EXPECT_NEAR(right.taylor_slope, 2, 0.05);
  const auto wrong = gradcheck([](const std::vector<Tensor>& in) { return square(in[0], 1.01); }, {x.clone()});
  EXPECT_FALSE(wrong.passed);
  // The differences alone would let this one pass; the Taylor test does not.
  const auto slightly =
      gradcheck([](const std::vector<Tensor>& in) { return square(in[0], 1 + 1e-3); }, {x.clone()}, {.relative = 1});
  EXPECT_FALSE(slightly.passed) << slightly.taylor_slope;
  EXPECT_NE(slightly.text.find("Taylor"), std::string::npos) << slightly.text;
}

TEST(Gradcheck, WantsFloat64) {
  EXPECT_THROW(gradcheck([](const std::vector<Tensor>& in) { return in[0] * 2.0; }, {Tensor::ones({2})}), Error);
}

}  // namespace
}  // namespace attune
