// Spectral norms against matrices whose norm is known, and the gradients of what is scaled by them.
#include "attune/autograd/ops/spectral.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "attune/autograd/ops/elementwise.hpp"
#include "attune/autograd/ops/matmul.hpp"
#include "attune/base/error.hpp"
#include "autograd/check.hpp"

namespace attune {
namespace {

using namespace testing_support;

TEST(Spectral, TheNormIsTheLargestSingularValue) {
  // Diagonal; an outer product a b^T, whose norm is |a| |b|; a rotation, all of whose singular values are 1.
  const Tensor diagonal = Tensor::from({3, 0, 0, 0, -7, 0}, {2, 3}, DType::float64);
  EXPECT_NEAR(spectral_norm(diagonal, 0, 2), 7, 1e-12);
  EXPECT_NEAR(spectral_norm(diagonal, 0, 1), 3, 1e-12);
  const Tensor a = normal({9, 1}, 1), b = normal({1, 21}, 2);
  double aa = 0, bb = 0;
  for (const double x : a.to_vector()) aa += x * x;
  for (const double x : b.to_vector()) bb += x * x;
  EXPECT_NEAR(spectral_norm(matmul(a, b), 0, 9), std::sqrt(aa * bb), 1e-12 * std::sqrt(aa * bb));
  const Tensor turn = Tensor::from({0.6, -0.8, 0.8, 0.6}, {2, 2}, DType::float64);
  EXPECT_NEAR(spectral_norm(turn, 0, 2), 1, 1e-12);
  EXPECT_EQ(spectral_norm(Tensor::zeros({4, 3}), 0, 4), 0);

  // Never more than the Frobenius norm, never less than the largest row; float32 and float64 agree.
  const Tensor w = normal({40, 32}, 3);
  double frobenius = 0;
  for (const double x : w.to_vector()) frobenius += x * x;
  const double sigma = spectral_norm(w, 0, 40);
  EXPECT_LT(sigma, std::sqrt(frobenius));
  // The definition, the slow way: 3,000 power iterations.
  Tensor v = normal({32, 1}, 5);
  double length = 0;
  for (int i = 0; i < 3000; ++i) {
    v = matmul(w, matmul(w, v), {.transpose_a = true});
    length = 0;
    for (const double x : v.to_vector()) length += x * x;
    v = scale(v, 1 / std::sqrt(length));
  }
  EXPECT_NEAR(sigma, std::pow(length, 0.25), 1e-9 * sigma);
  const Tensor wide = normal({60, 150}, 6);  // more columns than steps
  EXPECT_NEAR(spectral_norm(wide, 0, 60), spectral_norm(wide, 0, 60, 150), 1e-9 * spectral_norm(wide, 0, 60));
  EXPECT_NEAR(spectral_norm(w.to(DType::float32), 0, 40), sigma, 1e-5 * sigma);
  EXPECT_THROW(spectral_norm(w, 5, 5), Error);
  EXPECT_THROW(spectral_norm(w, 0, 41), Error);
  EXPECT_THROW(spectral_norm(Tensor::zeros({3}), 0, 3), Error);
}

TEST(Spectral, ScaledPartsHaveTheirGainAsNorm) {
  const Tensor w = normal({7, 5}, 4), gain = Tensor::from({2, 0.5}, {2}, DType::float64);
  const Tensor y = spectral_scale(w, gain, {0, 3, 7});
  EXPECT_NEAR(spectral_norm(y, 0, 3), 2, 1e-9);
  EXPECT_NEAR(spectral_norm(y, 3, 7), 0.5, 1e-9);
  EXPECT_LT(error_of(y, spectral_scale(scale(w, 31), gain, {0, 3, 7})), 1e-12) << "of any size before";
  expect_gradients([](const Inputs& in) { return spectral_scale(in[0], in[1], {0, 3, 7}); }, {w, gain});

  EXPECT_THROW(spectral_scale(w, gain, {0, 7}), Error);
  EXPECT_THROW(spectral_scale(w, gain, {0, 7, 7}), Error);
  EXPECT_THROW(spectral_scale(w, gain, {0, 3, 6}), Error);
  EXPECT_THROW(spectral_scale(Tensor::zeros({7, 5}, DType::float64), gain, {0, 3, 7}), Error);
}

}  // namespace
}  // namespace attune
