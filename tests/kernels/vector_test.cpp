// The elementary functions of the kernels against the C library in wider precision, for every target of the machine.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/vector_test.cpp"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/vector-inl.h"

#ifndef ATTUNE_VECTOR_TEST_OF  // once for all targets
#define ATTUNE_VECTOR_TEST_OF
namespace attune::kernels {
enum class Of { exp2, exp_of_difference, log };
}
#endif

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

template <class T>
HWY_INLINE void map(const T* x, T* y, int n, Of f) {
  constexpr int kL = kLaneCount<T>;
  for (int i = 0; i < n; i += kL) {
    const int rest = std::min(kL, n - i);
    const Vec<T> v = load_first(x + i, rest);
    store_first<T>(f == Of::log ? log(v) : f == Of::exp2 ? exp2(v) : exp_of_difference(v), y + i, rest);
  }
}
void map_f32(const float* x, float* y, int n, Of f) { map(x, y, n, f); }
void map_f64(const double* x, double* y, int n, Of f) { map(x, y, n, f); }

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {
namespace {

std::vector<float> map(const std::vector<float>& x, Of f) {
  std::vector<float> y(x.size());
  ATTUNE_DISPATCH(map_f32)(x.data(), y.data(), int(x.size()), f);
  return y;
}
std::vector<double> map(const std::vector<double>& x, Of f) {
  std::vector<double> y(x.size());
  ATTUNE_DISPATCH(map_f64)(x.data(), y.data(), int(x.size()), f);
  return y;
}

template <class T>
class Elementary : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Elementary, Scalars);

TYPED_TEST(Elementary, PowersOfTwo) {
  using T = TypeParam;
  std::vector<T> x;
  const double low = sizeof(T) == 4 ? -125 : -1021, high = sizeof(T) == 4 ? 127 : 1023;
  for (int i = 0; i <= 20000; ++i) x.push_back(T(low + (high - low) * i / 20000));
  for (int i = 0; i <= 20000; ++i) x.push_back(T(-1 + 2.0 * i / 20000));
  const auto y = map(x, Of::exp2);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp2(static_cast<long double>(x[i]));
    worst = std::max(worst, double(std::abs(y[i] / exact - 1)));
  }
  EXPECT_LE(worst, sizeof(T) == 4 ? 2e-7 : 1e-15);
}

TYPED_TEST(Elementary, ExponentialsOfDifferences) {
  using T = TypeParam;
  const double low = sizeof(T) == 4 ? -87 : -708;
  const bool fused = cpu_target() != CpuTarget::scalar;
  std::vector<T> x;
  for (int i = 0; i <= 20000; ++i) x.push_back(T(low * i / 20000));
  for (int i = 0; i <= 20000; ++i) x.push_back(T(-1 + 2.0 * i / 20000));
  const auto y = map(x, Of::exp_of_difference);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp(static_cast<long double>(x[i]));
    // Without a multiply-add the product with log2 e is rounded.
    const double growth = fused ? 1.4e-8 : 7.5e-8, size = std::abs(double(x[i]));
    const double bar = sizeof(T) == 4 ? 1.2e-7 + growth * size : 1e-15 + 2e-16 * size;
    EXPECT_LE(double(std::abs(y[i] / exact - 1)), bar) << x[i];
  }
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto edges = map(std::vector<T>{T(0), -infinity, std::numeric_limits<T>::lowest(), T(-3000), nan, T(3000)},
                         Of::exp_of_difference);
  EXPECT_EQ(edges[0], T(1));
  for (int i : {1, 2, 3}) EXPECT_EQ(edges[std::size_t(i)], T(0)) << i;
  EXPECT_TRUE(std::isnan(edges[4]));
  EXPECT_EQ(edges[5], infinity);
}

TYPED_TEST(Elementary, PowersOfTwoAtTheEdges) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const auto y = map(std::vector<T>{T(0), T(1), T(-1), -infinity, std::numeric_limits<T>::lowest(), T(-3000), nan,
                                    infinity, T(3000), T(10)},
                     Of::exp2);
  EXPECT_EQ(y[0], T(1));
  EXPECT_NEAR(double(y[1]), 2.0, 4e-7);
  EXPECT_NEAR(double(y[2]), 0.5, 1e-7);
  for (int i : {3, 4, 5}) EXPECT_EQ(y[std::size_t(i)], T(0)) << i;
  EXPECT_TRUE(std::isnan(y[6]));
  EXPECT_EQ(y[7], infinity);
  EXPECT_EQ(y[8], infinity);
  EXPECT_NEAR(double(y[9]), 1024, 2e-4);
}

TYPED_TEST(Elementary, Logarithms) {
  using T = TypeParam;
  std::vector<T> x;
  for (int i = -3000; i <= 3000; ++i) x.push_back(T(std::exp2(i * (sizeof(T) == 4 ? 0.04 : 0.3))));
  for (int i = 1; i <= 4000; ++i) x.push_back(T(i * 0.25));
  const auto y = map(x, Of::log);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::log(static_cast<long double>(x[i]));
    ASSERT_LE(double(std::abs(y[i] - exact)), (sizeof(T) == 4 ? 3e-7 : 1e-15) * std::max(1.0, double(std::abs(exact))))
        << x[i];
  }
  const T infinity = std::numeric_limits<T>::infinity();
  const auto edge = map(std::vector<T>{T(1), infinity, std::numeric_limits<T>::quiet_NaN()}, Of::log);
  EXPECT_EQ(edge[0], T(0));
  EXPECT_EQ(edge[1], infinity);
  EXPECT_TRUE(std::isnan(edge[2]));
}

}  // namespace
}  // namespace attune::kernels
#endif
